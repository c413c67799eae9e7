"""The append-only journal of a run: one JSON object a line, written the moment it is known.

Records, by "type": one "header" first; then "selection" (the tests that this run is to execute), "stack" (what a worker
found once torch was imported), "test" (one for each test that ended); one "footer" last, missing if the run was killed.
Every report is a function of journals.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

SCHEMA = 1
FILE_NAME = "journal.jsonl"
TYPES = ("header", "selection", "stack", "test", "footer")


class JournalError(ValueError):
    """A journal that cannot be used. The text says which file, which line, what is wrong and what to do."""


class Writer:
    """Appends records to a new journal; each is on its way to the disk when ``append`` returns.

    Raises:
        JournalError: the file exists already (a journal is never overwritten), or its directory cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("x", encoding="utf-8")
        except FileExistsError:
            raise JournalError(f"{path} exists: a journal is never overwritten. Choose another --run-dir") from None
        except OSError as error:
            raise JournalError(f"{path} cannot be written: {error.strerror}. Choose another --run-dir") from None

    def append(self, record: Mapping[str, Any]) -> None:
        """Writes one record, with the time at which it was written (UTC)."""
        line = json.dumps({**record, "time": now()}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        """Makes the journal durable."""
        os.fsync(self._file.fileno())
        self._file.close()


@dataclass(frozen=True)
class Journal:
    """A journal that was read. ``footer`` is None where the run was killed."""

    path: Path
    header: Mapping[str, Any]
    selection: tuple[Mapping[str, Any], ...]
    stacks: tuple[Mapping[str, Any], ...]
    tests: tuple[Mapping[str, Any], ...]
    footer: Mapping[str, Any] | None


def read(path: Path) -> Journal:
    """Reads a journal, given as the file or as the directory of its run.

    A last line that was cut off by the end of the run is left out, as if it had not been written.

    Raises:
        JournalError: no journal, another schema, a line that is no record, no header, two headers, anything after the
            footer.
    """
    path = path / FILE_NAME if path.is_dir() else path
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise JournalError(
            f"{path}: cannot be read: {error.strerror}. Give a journal or the directory of a run"
        ) from None
    except UnicodeDecodeError as error:
        raise JournalError(f"{path}: not a journal: byte {error.start} is no UTF-8") from None
    lines = text.split("\n")
    complete, rest = lines[:-1], lines[-1]
    if not complete:
        raise JournalError(f"{path}: {'no complete line' if rest else 'empty'}; a journal starts with its header")
    records = [_record(path, number, line) for number, line in enumerate(complete, 1)]
    _check_order(path, records)
    chosen = {type: tuple(record for record in records if record["type"] == type) for type in TYPES}
    selection = tuple(test for record in chosen["selection"] for test in record["tests"])
    footer = chosen["footer"][0] if chosen["footer"] else None
    return Journal(path, records[0], selection, chosen["stack"], chosen["test"], footer)


def now() -> str:
    """The time in UTC, to the millisecond, as ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _record(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise JournalError(f"{path}, line {number}: not JSON ({error}). The journal was damaged or edited") from None
    if not isinstance(record, dict) or record.get("type") not in TYPES:
        raise JournalError(f'{path}, line {number}: not a record; expected "type" to be one of {", ".join(TYPES)}')
    return record


def _check_order(path: Path, records: list[dict[str, Any]]) -> None:
    first = records[0]
    if first["type"] != "header":
        raise JournalError(f"{path}, line 1: expected the header, found a record of type {first['type']}")
    if first.get("schema") != SCHEMA:
        raise JournalError(
            f"{path}, line 1: schema {first.get('schema')}, but this version reads schema {SCHEMA}. "
            "Use the version of the suite that wrote it"
        )
    for number, record in enumerate(records[1:], 2):
        if record["type"] == "header":
            raise JournalError(f"{path}, line {number}: a second header; two runs were written into one file")
        if records[number - 2]["type"] == "footer":
            raise JournalError(f"{path}, line {number}: a record after the footer")

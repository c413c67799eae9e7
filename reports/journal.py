"""The append-only journal of a run: one JSON object a line, written the moment it is known.

Records, by "type": one "header" first; then "selection" (the tests that this run is to execute), "stack" (what a worker
found once torch was imported), "test" (one for each test that ended), "repeat" (one for each time that a test was
executed again); one "footer" last, missing if the run was killed.

Each line ends with "sha256": the SHA-256 of the "sha256" of the line before it ("" for the header) followed by the
line's own text up to there. So a line that was altered, removed, repeated, moved or brought from another journal is
found, and its number is known. The chain shows damage and careless edits; who wants to prove where a journal comes from
signs it (``python -m reports bundle --sign``).

A run whose tests were spread over several journals (shards, or resumed runs) keeps them in one directory. A journal
that resumes others names them in its header: ``"resumes": [<sha256 of their header>, ...]``.

Every report is a function of journals.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from reports.errors import ReportError
from reports.outcome import Outcome

SCHEMA = 2
FILE_NAME = "journal.jsonl"
TYPES = ("header", "selection", "stack", "test", "repeat", "footer")
LONGEST_LINE = 64 * 1024 * 1024  # bytes; the plan of 100,000 tests has 40 MB, the record of one a few kilobytes
_SEAL = re.compile(r',"sha256":"([0-9a-f]{64})"}')
_SEAL_LENGTH = len(',"sha256":"') + 64 + len('"}')

# What a reader may rely on, by type of record: name -> type of the value. Records may have more.
_TEST = {
    **dict.fromkeys(("nodeid", "requirement", "level", "sentence", "library", "reproduce"), str),
    "features": list,
}
REQUIRED: Mapping[str, Mapping[str, type]] = {
    "header": {"cards": list, "emulated": bool, "versions": dict},
    "selection": {"tests": list},
    "stack": {},
    "repeat": {"nodeid": str, "outcome": str, "number": int},
    "test": {**_TEST, "outcome": str, "reason": str},
    "footer": {"verdict": str, "tests": int},
}
OPTIONAL: Mapping[str, Mapping[str, type | tuple]] = {
    "header": {
        **{"cann": dict, "environment": dict, "machine": dict, "resumes": list, "command": list},
        "model": (dict, type(None)),
    },
    "selection": {"waivers": list, "waiver_problems": list, "profile": (dict, type(None))},
    "stack": {"chip": (str, type(None))},
    "test": {
        **{"values": dict, "checks": list, "findings": list, "seconds": dict, "npu": dict},
        **{"log": str, "worker": str, "waiver": (dict, type(None))},
    },
}


class JournalError(ReportError):
    """A journal that cannot be used. The text says which file, which line, what is wrong and what to do."""


class Writer:
    """Appends records to a new journal; each is on its way to the disk when ``append`` returns.

    Raises:
        JournalError: the file exists already (a journal is never overwritten), or its directory cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        self._seal = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("x", encoding="utf-8")
            _lock(self._file.fileno())
        except FileExistsError:
            if not path.parent.is_dir():
                raise JournalError(
                    f"{path.parent} is a file, expected a directory for a journal. Choose another --run-dir"
                ) from None
            raise JournalError(f"{path} exists: a journal is never overwritten. Choose another --run-dir") from None
        except OSError as error:
            raise JournalError(f"{path} cannot be written: {error.strerror}. Choose another --run-dir") from None

    def append(self, record: Mapping[str, Any]) -> None:
        """Writes one record, with the time at which it was written (UTC)."""
        text = json.dumps({**record, "time": now()}, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        self._seal = seal(self._seal, text[:-1])
        self._file.write(f'{text[:-1]},"sha256":"{self._seal}"}}\n')
        self._file.flush()

    def close(self) -> None:
        """Makes the journal durable."""
        os.fsync(self._file.fileno())
        self._file.close()


@dataclass(frozen=True)
class Journal:
    """A journal that was read; its chain is intact.

    Attributes:
        path: the file.
        header: the first record.
        selection: the tests that the run was to execute, as they were described before it.
        stacks: what each worker found.
        tests: the records of the tests that ended, in order.
        lines: the line of each of ``tests``.
        footer: the last record; None where the run was killed.
        plan: what the "selection" record has beside the tests (profile, waivers); {} without one.
        torn: the last line was cut off, or whatever stands there is no complete line.
        repeats: how tests ended when they were executed again (--repeat); never part of the verdict.
    """

    path: Path
    header: Mapping[str, Any]
    selection: tuple[Mapping[str, Any], ...]
    stacks: tuple[Mapping[str, Any], ...]
    tests: tuple[Mapping[str, Any], ...]
    footer: Mapping[str, Any] | None
    lines: tuple[int, ...] = ()
    plan: Mapping[str, Any] | None = None
    torn: bool = False
    repeats: tuple[Mapping[str, Any], ...] = ()


def read(path: Path) -> Journal:
    """Reads a journal, given as the file or as the directory of its run.

    A last line that was cut off by the end of the run is left out, as if it had not been written.

    Raises:
        JournalError: no journal, another schema, a line that is no record or was altered, no header, two headers,
            anything after the footer.
    """
    path = path / FILE_NAME if path.is_dir() else path
    records: list[dict[str, Any]] = []
    torn, before = False, ""
    for number, line in _lines(path):
        if not line.endswith(b"\n"):
            torn = True
            break
        text = _decoded(path, number, line)
        record = _record(path, number, text)
        _check_order(path, number, record, records)
        before = _checked_seal(path, number, text, before)
        _check_fields(path, number, record)
        records.append(record)
    if not records:
        raise JournalError(f"{path}: {'no complete line' if torn else 'empty'}; a journal starts with its header")
    chosen = {type: tuple(record for record in records if record["type"] == type) for type in TYPES}
    return Journal(
        path=path,
        header=records[0],
        selection=tuple(test for record in chosen["selection"] for test in record["tests"]),
        stacks=chosen["stack"],
        tests=chosen["test"],
        footer=chosen["footer"][0] if chosen["footer"] else None,
        lines=tuple(number for number, record in enumerate(records, 1) if record["type"] == "test"),
        plan={name: value for record in chosen["selection"] for name, value in record.items() if name != "tests"},
        torn=torn,
        repeats=chosen["repeat"],
    )


def is_being_written(path: Path) -> bool:
    """Whether a process that lives is still writing this journal."""
    with path.open("rb") as file:
        return not _lock(file.fileno())


def _lock(descriptor: int) -> bool:
    """Locks an open journal for as long as it is open; False where another process has it locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def seal(before: str, text: str) -> str:
    """The "sha256" of a line: of the one before ("" for the header) and of the line's own text up to its seal."""
    return hashlib.sha256((before + text).encode()).hexdigest()


def now() -> str:
    """The time in UTC, to the millisecond, as ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            number = 1
            while line := file.readline(LONGEST_LINE + 1):
                if len(line) > LONGEST_LINE:
                    raise JournalError(f"{path}, line {number}: longer than {LONGEST_LINE} bytes, which no record is")
                yield number, line
                number += 1
    except OSError as error:
        raise JournalError(
            f"{path}: cannot be read: {error.strerror}. Give a journal or the directory of a run"
        ) from None


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line[:-1].decode("utf-8")
    except UnicodeDecodeError as error:
        raise JournalError(f"{path}, line {number}: not a journal: byte {error.start} is no UTF-8") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _record(path: Path, number: int, text: str) -> dict[str, Any]:
    try:
        record = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise JournalError(f"{path}, line {number}: not JSON ({error}). The journal was damaged or edited") from None
    if not isinstance(record, dict) or record.get("type") not in TYPES:
        raise JournalError(f'{path}, line {number}: not a record; expected "type" to be one of {", ".join(TYPES)}')
    return record


def _check_order(path: Path, number: int, record: Mapping[str, Any], before: list[dict[str, Any]]) -> None:
    if not before:
        if record["type"] != "header":
            raise JournalError(f"{path}, line 1: expected the header, found a record of type {record['type']}")
        if record.get("schema") != SCHEMA:
            raise JournalError(
                f"{path}, line 1: schema {record.get('schema')}, but this version reads schema {SCHEMA}. "
                "Use the version of the suite that wrote it"
            )
    elif record["type"] == "header":
        raise JournalError(f"{path}, line {number}: a second header; two runs were written into one file")
    elif before[-1]["type"] == "footer":
        raise JournalError(f"{path}, line {number}: a record after the footer")


def _checked_seal(path: Path, number: int, text: str, before: str) -> str:
    body, found = text[:-_SEAL_LENGTH], _SEAL.fullmatch(text[-_SEAL_LENGTH:])
    if found and found[1] == seal(before, body):
        return found[1]
    what = "its SHA-256 does not follow from the line before" if found else 'it does not end with "sha256"'
    raise JournalError(
        f"{path}, line {number}: {what}: this line was edited, or lines before it were removed, repeated, moved or "
        "brought from another journal. Use the journal as the run wrote it"
    )


def _check_fields(path: Path, number: int, record: Mapping[str, Any]) -> None:
    type_ = record["type"]
    problem = _missing(record, REQUIRED[type_]) or _mistyped(record, {**REQUIRED[type_], **OPTIONAL.get(type_, {})})
    if not problem and type_ == "test":
        if record["outcome"] not in Outcome.__members__:
            problem = f"outcome {record['outcome']!r} is none of {', '.join(Outcome.__members__)}"
        elif not all(isinstance(feature, str) for feature in record["features"]):
            problem = "features that are no text"
    if not problem and type_ == "selection":
        problem = next((p for test in record["tests"] if (p := _fault_of_test(test))), None)
    if problem:
        raise JournalError(f"{path}, line {number}: a record of type {type_} with {problem}")


def _fault_of_test(test: Any) -> str | None:
    if not isinstance(test, dict):
        return "a test that is no object"
    return _missing(test, _TEST) or _mistyped(test, _TEST)


def _missing(record: Mapping[str, Any], required: Mapping[str, type]) -> str | None:
    missing = [name for name in required if name not in record]
    return f"no {', '.join(missing)}" if missing else None


def _mistyped(record: Mapping[str, Any], types: Mapping[str, type | tuple]) -> str | None:
    wrong = [name for name, type in types.items() if name in record and not isinstance(record[name], type)]
    return f"a malformed {', '.join(wrong)}" if wrong else None

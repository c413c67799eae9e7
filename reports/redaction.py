"""Takes host names, user names, network addresses and absolute paths out of journals.

What identifies tests and outcomes stays as it is; every other text is searched, those of logs and errors too. Names are
learnt from the journals themselves and from this machine. A redacted journal is a journal: chained anew, and its header
says of which file (its SHA-256) it is the redaction.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reports import journal
from reports.errors import ReportError
from reports.run import Run

# Texts of the suite itself, which have nothing of the machine and by which tests and records are found again.
KEPT = ("type", "nodeid", "requirement", "level", "sentence", "library", "features", "outcome", "time", "revision")
HOST, USER, ADDRESS, PATH = "<host>", "<user>", "<address>", "<path>"
# At the beginning of a word, of the value of an option such as -I, or behind file://; URLs and relative paths are left.
_PATH = re.compile(r"(?:file://|(?<![\w./<>-])|(?<=-[A-Za-z]))/(?:[\w.@+~%-]+/)*[\w.@+~%-]+")
_USERS = re.compile(r"(?:/home/|/Users/|pytest-of-)([\w.-]+)")
_ADDRESS = re.compile(r"(?<![\w.])(?!127\.)(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")
_COMMON = {"root", "localhost", "user", "runner", "npu", "test", "tests", "nobody"}
SHORTEST = 3  # characters of a name; shorter ones occur in any text


def redacted(run: Run, directory: Path) -> dict[Path, Path]:
    """Writes a redaction of each journal into a directory.

    Returns:
        The new file of each journal.
    """
    names = secrets(run)
    written: dict[Path, Path] = {}
    identities: dict[str, str] = {}
    for number, one in enumerate(run.journals, 1):
        file = directory / f"journal-{number}.jsonl"
        digest = hashlib.sha256(one.path.read_bytes()).hexdigest()
        before, lines = "", []
        for record in _records(one.path):
            old = record.pop("sha256")
            clean = _clean_record(record, names)
            if record["type"] == "header":
                clean["redacted"] = {"of": digest}
                clean["resumes"] = [identities.get(id, id) for id in record.get("resumes", [])]
            text = json.dumps(clean, ensure_ascii=True, separators=(",", ":"))[:-1]
            before = journal.seal(before, text)
            lines.append(f'{text},"sha256":"{before}"}}\n')
            if record["type"] == "header":
                identities[old] = before
        file.write_text("".join(lines), encoding="utf-8")
        written[one.path] = file
    return written


def secrets(run: Run) -> dict[str, str]:
    """Names to take out, longest first, each with what stands in its place."""
    machines = [one.header.get("machine") or {} for one in run.journals]
    hosts = {str(machine.get("name") or "") for machine in machines} | {platform.node()}
    hosts |= {host.split(".")[0] for host in hosts}
    users = {_own_user()}
    for one in run.journals:
        for record in _records(one.path):
            users |= {name for text in _texts(record) for name in _USERS.findall(text)}
    found = dict.fromkeys(users, USER) | dict.fromkeys(hosts, HOST)
    kept = {name: mark for name, mark in found.items() if len(name) >= SHORTEST and name.lower() not in _COMMON}
    return dict(sorted(kept.items(), key=lambda item: -len(item[0])))


def check(files: Mapping[str, bytes], names: Mapping[str, str]) -> None:
    """Makes sure that no name is left in any file.

    Raises:
        ReportError: one is.
    """
    for file, data in files.items():
        text = data.decode("utf-8", "replace")
        for name in names:
            if not file.startswith("suite/") and _word(name).search(text):
                raise ReportError(
                    f"--redact: the name {name!r} is left in {file}; it is part of a test's own name, so rename the "
                    "host or hand over without --redact"
                )


def clean_text(text: str, names: Mapping[str, str]) -> str:
    """A text without what identifies a machine or a person. Of a path its last part stays."""
    text = _PATH.sub(lambda found: f"{PATH}/{found[0].rsplit('/', 1)[1]}", text)
    for name, mark in names.items():
        text = _word(name).sub(mark, text)
    return _ADDRESS.sub(ADDRESS, text)


def _clean_record(record: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    clean = {key: value if key in KEPT else _clean(value, names) for key, value in record.items() if key != "tests"}
    if "tests" in record:
        tests = record["tests"]
        clean["tests"] = [_clean_record(test, names) for test in tests] if isinstance(tests, list) else tests
    return clean


def _clean(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return clean_text(value, names)
    if isinstance(value, list):
        return [_clean(item, names) for item in value]
    if isinstance(value, dict):
        return {clean_text(name, names): _clean(item, names) for name, item in value.items()}
    return value


def _word(name: str) -> re.Pattern:
    return re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])")


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _own_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without an entry for its user
        return ""

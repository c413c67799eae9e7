"""Whatever a command is given instead of a run: one message, no traceback, exit code 2, nothing written."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from made_runs import HEADER, ended, forged, made, records

from reports import files, journal
from reports.__main__ import COMMANDS, main
from reports.errors import ReportError

ROOT = Path(__file__).resolve().parents[2]
# What each command that reads runs needs beside one.
ARGUMENTS = {
    "verify": ["{run}"],
    "junit": ["{run}", "-o", "{out}"],
    "ctrf": ["{run}", "-o", "{out}"],
    "markdown": ["{run}", "-o", "{out}"],
    "csv": ["{run}", "-o", "{out}"],
    "html": ["{run}", "-o", "{out}"],
    "merge": ["{run}", "-o", "{out}"],
    "bundle": ["{run}", "-o", "{out}"],
    "compare": ["{run}", "{run}", "--html", "{out}"],
}
OTHERS = {"catalogue", "history"}  # read no run, or a directory of them


def text(*contents: dict) -> bytes:
    """A journal of records, correctly chained, as bytes."""
    return forged(*contents).encode()


RECORDS = records([ended("PASS")])
BAD = {
    "missing": (None, "cannot be read: No such file or directory"),
    "empty": (b"", "empty; a journal starts with its header"),
    "torn in its first line": (b'{"type":"header"', "no complete line"),
    "binary": (bytes(range(256)) * 10, "line 1: not JSON"),
    "zeros": (bytes(10_000) + b"\n", "line 1: not JSON"),
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a journal: byte 0 is no UTF-8"),
    "of the future": (text({**HEADER, "schema": 99}), "schema 99, but this version reads schema"),
    "of the past": (text({**HEADER, "schema": 1}), "schema 1, but this version reads schema"),
    "nested deeply": (b"[" * 1_000_000 + b"\n", "line 1: not JSON"),
    "a huge number": (b'{"type":"header","schema":' + b"9" * 100_000 + b"}\n", "line 1: not JSON"),
    "edited": (text(*RECORDS).replace(b'"PASS"', b'"FAIL"'), "this line was edited"),
    "two runs": (text(*RECORDS, *RECORDS), "a second header; two runs were written into one file"),
    "no records": (text({"type": "test"}), "expected the header, found a record of type test"),
    "fields of other types": (text(HEADER, {**RECORDS[1], "tests": 3}), "line 2: a record of type selection"),
    "a strange profile": (text(HEADER, {**RECORDS[1], "profile": [1]}), "line 2: a record of type selection"),
    "a list": (b"[]\n", "line 1: not a record"),
}


def test_every_command_is_tried():
    """A command that is added is tried here, too."""
    assert set(ARGUMENTS) | OTHERS >= set(COMMANDS)


def tried(command: str, run: Path, out: Path) -> int:
    """Calls a command as a user would."""
    return main([command, *(part.format(run=run, out=out) for part in ARGUMENTS[command])])


@pytest.mark.parametrize("command", sorted(set(ARGUMENTS) & set(COMMANDS)))
@pytest.mark.parametrize("what", BAD)
def test_bad_journals(tmp_path, capsys, command, what):
    """A journal that cannot be used is refused by each command with one message that names the file."""
    content, message = BAD[what]
    (tmp_path / "in").mkdir()
    if content is not None:
        (tmp_path / "in/journal.jsonl").write_bytes(content)

    assert tried(command, tmp_path / "in/journal.jsonl", tmp_path / "out") == 2

    said = capsys.readouterr()
    assert message in said.err
    assert "in/journal.jsonl" in said.err
    assert len(said.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("command", sorted((set(ARGUMENTS) & set(COMMANDS)) - {"csv"}))
def test_a_malformed_profile_in_a_journal(tmp_path, capsys, command):
    """What a journal says of its profile is not trusted by any command that gives a verdict."""
    profile = {"name": "x", "required": [{"id": 3}], "unless": [{"when": 4}], "deselected": [5]}
    (tmp_path / "journal.jsonl").write_bytes(text(RECORDS[0], {**RECORDS[1], "profile": profile}, *RECORDS[2:]))

    assert tried(command, tmp_path / "journal.jsonl", tmp_path / "out") == 2
    assert "profile is malformed" in capsys.readouterr().err


@pytest.mark.parametrize("command", sorted(set(ARGUMENTS) & set(COMMANDS)))
def test_a_line_of_100_megabytes(tmp_path, command):
    """A line longer than any record is refused in a second's work and in little memory."""
    with (tmp_path / "journal.jsonl").open("wb") as file:
        file.write(text(HEADER))
        file.write(b'{"type":"test","reason":"' + b"x" * 100_000_000 + b'"}\n')
    arguments = [part.format(run=tmp_path / "journal.jsonl", out=tmp_path / "out") for part in ARGUMENTS[command]]

    done = subprocess.run(
        [sys.executable, "-m", "reports", command, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 * 1024**3, 2 * 1024**3)),
    )

    assert done.returncode == 2
    assert f"line 2: longer than {journal.LONGEST_LINE} bytes, which no record is" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["junit", "ctrf", "markdown", "csv"])
def test_runs_that_were_killed_are_reported(tmp_path, command):
    """A killed run is no bad input: what is known of it is reported."""
    (tmp_path / "journal.jsonl").write_bytes(text(*records([ended("PASS")])[:-1]) + b'{"type":"te')

    assert tried(command, tmp_path, tmp_path / "out") == 0
    assert (tmp_path / "out").stat().st_size > 50


def test_unknown_commands(capsys):
    """A command that is none is refused with those that there are."""
    with pytest.raises(SystemExit) as raised:
        main(["publish"])
    assert raised.value.code == 2
    assert "invalid choice: 'publish'" in capsys.readouterr().err


# Writing ---------------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_what_was_there(tmp_path):
    """Where a file cannot be written to its end, the old one stays whole, nothing else is left, and it is said so."""
    (tmp_path / "run").mkdir()
    made(tmp_path / "run", ended("PASS", log="x" * 20_000))
    (tmp_path / "out.xml").write_text("the report of yesterday")

    done = subprocess.run(
        [sys.executable, "-m", "reports", "junit", tmp_path / "run", "-o", tmp_path / "out.xml"],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},  # which would be cut off, too, and be there for everybody
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )

    assert done.returncode == 2
    assert "out.xml: cannot be written: File too large. What was there before is untouched" in done.stderr
    assert (tmp_path / "out.xml").read_text() == "the report of yesterday"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.xml", "run"]


def test_a_killed_writer_leaves_what_was_there(tmp_path):
    """A process that is killed while it writes leaves the old file whole."""
    (tmp_path / "out").write_text("old")
    program = (
        "import os, signal, pathlib, reports.files as files\n"
        "os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"files.write_whole(pathlib.Path({str(tmp_path / 'out')!r}), 'new' * 1000)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)

    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "out").read_text() == "old"


def test_written_files_are_readable_by_others(tmp_path):
    """A report has the permissions that the user's umask gives, not those of a temporary file."""
    before = os.umask(0o022)
    try:
        files.write_whole(tmp_path / "out", "text")
    finally:
        os.umask(before)

    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("target", ["none/out", "directory"])
def test_places_that_cannot_be_written(tmp_path, target):
    """A directory that is missing, or that stands in the file's place, is one message."""
    (tmp_path / "directory").mkdir()

    with pytest.raises(ReportError, match="cannot be written: "):
        files.write_whole(tmp_path / target, "text")
    assert [path.name for path in tmp_path.rglob("*")] == ["directory"]

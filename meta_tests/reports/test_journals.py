"""A journal is complete at every moment, is never overwritten, and says in words what is wrong with a damaged one."""

import errno
import hashlib
import json
import re

import pytest
from made_runs import HEADER, chained, ended, forged, made, planned

from reports import journal
from reports.journal import JournalError, Writer, read

TEST = ended()
FOOTER = {"type": "footer", "verdict": "CONFORMANT", "tests": 1}


def written(path, *records) -> None:
    """A journal file with those records, correctly chained whatever they are."""
    path.write_text(forged(*records))


def test_what_is_written_is_read(tmp_path):
    """Records come back as they were written, in order, with the time at which they were."""
    writer = Writer(tmp_path / "run/journal.jsonl")
    for record in (HEADER, {"type": "selection", "tests": [planned()]}, TEST, FOOTER):
        writer.append(record)
    writer.close()

    found = read(tmp_path / "run")

    assert found.tests[0]["requirement"] == "demo/thing"
    assert found.tests[0]["time"].endswith("Z")
    assert found.selection == (planned(),)
    assert found.footer["verdict"] == "CONFORMANT"


def test_each_record_is_there_at_once(tmp_path):
    """A record can be read as soon as it was appended, while the run goes on."""
    writer = Writer(tmp_path / "journal.jsonl")
    writer.append(HEADER)
    writer.append(TEST)

    assert len(read(tmp_path).tests) == 1
    assert read(tmp_path).footer is None
    writer.close()


def test_a_journal_is_never_overwritten(tmp_path):
    """A second writer for a file is refused."""
    Writer(tmp_path / "journal.jsonl").close()

    with pytest.raises(JournalError, match="exists: a journal is never overwritten"):
        Writer(tmp_path / "journal.jsonl")


def test_numbers_that_json_does_not_have(tmp_path):
    """A NaN that was not made plain is a mistake of the caller, not a damaged journal."""
    writer = Writer(tmp_path / "journal.jsonl")

    with pytest.raises(ValueError, match="not JSON compliant"):
        writer.append({"type": "test", "value": float("nan")})
    writer.close()
    assert (tmp_path / "journal.jsonl").read_text() == ""


def test_a_last_line_that_was_cut_off(tmp_path):
    """What a killed run had begun to write is left out."""
    written(tmp_path / "journal.jsonl", HEADER, TEST)
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"type": "te')

    assert len(read(tmp_path).tests) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "journal.jsonl: empty; a journal starts with its header"),
        (b'{"type": "head', "journal.jsonl: no complete line; a journal starts with its header"),
        (b"\x89PNG\r\n\x1a\n", "journal.jsonl, line 1: not a journal: byte 0 is no UTF-8"),
        (b"hello\n", "journal.jsonl, line 1: not JSON"),
        (b"[]\n", 'line 1: not a record; expected "type" to be one of header, selection, stack, test, repeat, footer'),
        (b'{"type": "other"}\n', "line 1: not a record"),
        (b'{"type": "test"}\n', "line 1: expected the header, found a record of type test"),
        (b"[" * 100_000 + b"\n", "line 1: not JSON"),
        (b'{"type": "header", "schema": NaN}\n', "line 1: not JSON (NaN is no JSON)"),
        (b'{"type": "header", "schema": 2}\n', 'line 1: it does not end with "sha256": this line was edited, or'),
        (b'{"type": "header", "schema": 99}\n', "line 1: schema 99, but this version reads schema 2"),
    ],
)
def test_files_that_are_no_journals(tmp_path, content, message):
    """An empty, binary, truncated, foreign or future file is refused with file, line and what is wrong."""
    (tmp_path / "journal.jsonl").write_bytes(content)

    with pytest.raises(JournalError) as raised:
        read(tmp_path)

    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ((HEADER, TEST, HEADER), "line 3: a second header; two runs were written into one file"),
        ((HEADER, FOOTER, TEST), "line 3: a record after the footer"),
    ],
)
def test_records_in_the_wrong_place(tmp_path, records, message):
    """A second header and a record after the footer are refused."""
    written(tmp_path / "journal.jsonl", *records)

    with pytest.raises(JournalError, match=message):
        read(tmp_path)


def test_a_missing_journal(tmp_path):
    """A file that is not there is refused."""
    with pytest.raises(JournalError, match=r"cannot be read: No such file or directory\. Give a journal"):
        read(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"type": "test", "nodeid": "a"}, "line 2: a record of type test with no requirement, level, "),
        ({**TEST, "nodeid": 3}, "line 2: a record of type test with a malformed nodeid"),
        ({**TEST, "outcome": "<b>"}, "line 2: a record of type test with outcome '<b>' is none of PASS, FAIL, "),
        ({**TEST, "features": [1]}, "line 2: a record of type test with features that are no text"),
        ({**TEST, "checks": "x"}, "line 2: a record of type test with a malformed checks"),
        ({"type": "selection", "tests": ["a"]}, "line 2: a record of type selection with a test that is no object"),
        ({"type": "selection", "tests": [{}]}, "line 2: a record of type selection with no nodeid, requirement, "),
        ({"type": "footer"}, "line 2: a record of type footer with no verdict, tests"),
    ],
)
def test_records_without_what_readers_rely_on(tmp_path, record, message):
    """A record that lacks a field, or has another type of value there, is refused before a report trips over it."""
    written(tmp_path / "journal.jsonl", HEADER, record)

    with pytest.raises(JournalError) as raised:
        read(tmp_path)

    assert message in str(raised.value)


def test_a_line_without_end(tmp_path, monkeypatch):
    """A line longer than any record is refused without being read to its end."""
    monkeypatch.setattr(journal, "LONGEST_LINE", 2000)
    (tmp_path / "journal.jsonl").write_text(chained(json.dumps(HEADER)[:-1]) + "x" * 10_000)

    with pytest.raises(JournalError, match="line 2: longer than 2000 bytes, which no record is"):
        read(tmp_path)


def altered(lines: list[str]) -> dict[str, tuple[list[str], int]]:
    """What can be done to the lines of a journal, and the line at which it shows."""
    return {
        "edited": ([*lines[:3], lines[3].replace("FAIL", "PASS"), *lines[4:]], 4),
        "removed": ([*lines[:3], *lines[4:]], 4),
        "repeated": ([*lines[:4], lines[3], *lines[4:]], 5),
        "swapped": ([*lines[:2], lines[3], lines[2], *lines[4:]], 3),
        "footer edited": ([*lines[:-1], lines[-1].replace("NOT CONFORMANT", "CONFORMANT")], 6),
        "header edited": ([lines[0].replace('"emulated":true', '"emulated":false'), *lines[1:]], 1),
        "seal cut off": ([*lines[:3], lines[3].split(',"sha256"')[0] + "}", *lines[4:]], 4),
    }


@pytest.mark.parametrize("what", altered(["x"] * 6))
def test_altered_journals(tmp_path, what):
    """A journal that was edited, shortened in the middle, lengthened or reordered is refused at that line."""
    first, second = ended("FAIL", "demo/a"), ended("PASS", "demo/b")
    made(tmp_path / "real", first, second)
    text = (tmp_path / "real/journal.jsonl").read_text()
    lines, number = altered(text.splitlines())[what]
    (tmp_path / "journal.jsonl").write_text("".join(f"{line}\n" for line in lines))
    assert (tmp_path / "journal.jsonl").read_text() != text

    with pytest.raises(
        JournalError, match=rf"journal\.jsonl, line {number}: .*this line was edited, or lines before it"
    ):
        read(tmp_path)


def test_lines_of_another_journal(tmp_path):
    """A journal into which lines of another were brought is refused at the first of them."""
    made(tmp_path / "a", ended("PASS", "demo/a"))
    made(tmp_path / "b", ended("FAIL", "demo/b"), header={"cards": [1]})
    ours, theirs = ((tmp_path / name / "journal.jsonl").read_text().splitlines() for name in "ab")
    (tmp_path / "journal.jsonl").write_text("\n".join([*theirs[:3], *ours[3:]]) + "\n")

    with pytest.raises(JournalError, match="line 4: its SHA-256 does not follow from the line before"):
        read(tmp_path)


def test_what_a_journal_has_beside_its_tests(tmp_path):
    """Stacks, repetitions, the plan, and the line of each test, as they stand in the file."""
    stacks = [{"type": "stack", "chip": chip} for chip in ("Ascend910B3", None)]
    repeat = {"type": "repeat", "nodeid": TEST["nodeid"], "outcome": "FAIL", "number": 2}
    plans = [
        {"type": "selection", "tests": [planned("demo/a")], "profile": None},
        {"type": "selection", "tests": [planned("demo/b")], "waivers": []},
    ]
    written(tmp_path / "journal.jsonl", HEADER, *plans, *stacks, TEST, repeat, TEST, FOOTER)

    found = read(tmp_path)

    assert found.path == tmp_path / "journal.jsonl"
    assert [stack["chip"] for stack in found.stacks] == ["Ascend910B3", None]
    assert [test["requirement"] for test in found.selection] == ["demo/a", "demo/b"]
    assert {"profile": None, "waivers": []}.items() <= found.plan.items()
    assert "tests" not in found.plan
    assert (found.lines, len(found.repeats), found.repeats[0]["number"], found.torn) == ((6, 8), 1, 2, False)


def test_a_journal_of_its_header_alone(tmp_path):
    """A run that was killed at once has no tests, no plan and no end, and that what it had begun to write was cut."""
    written(tmp_path / "journal.jsonl", HEADER)
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write("{")

    found = read(tmp_path)

    assert (found.selection, found.stacks, found.tests, found.lines, found.repeats) == ((), (), (), (), ())
    assert (found.footer, found.plan, found.torn) == (None, {}, True)


def test_the_chain_is_that_of_the_documentation(tmp_path):
    """Who has nothing but SHA-256 can check a journal: each line's is that of the one before and of its own text."""
    made(tmp_path, ended("FAIL", reason="预期 4"), ended("PASS", "demo/b"))

    before = ""
    for line in (tmp_path / "journal.jsonl").read_text("ascii").splitlines():
        body, _, seal = line.rpartition(',"sha256":"')
        assert seal == hashlib.sha256((before + body).encode()).hexdigest() + '"}'
        assert re.search(r'"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"$', body)
        before = seal[:-2]
    assert read(tmp_path).tests[0]["reason"] == "预期 4"


def test_whether_a_run_goes_on(tmp_path):
    """A journal is being written as long as its writer has it open."""
    writer = Writer(tmp_path / "journal.jsonl")
    writer.append(HEADER)

    assert journal.is_being_written(tmp_path / "journal.jsonl") is True
    writer.close()
    assert journal.is_being_written(tmp_path / "journal.jsonl") is False


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    """Where files cannot be locked, runs are written all the same, and none is thought to go on."""

    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    writer = Writer(tmp_path / "journal.jsonl")

    assert journal.is_being_written(tmp_path / "journal.jsonl") is False
    writer.close()


def test_a_place_that_cannot_be_written(tmp_path):
    """The file is named, what the system says of it, and what to do."""
    (tmp_path / "file").touch()
    place = tmp_path / "file/run/journal.jsonl"

    with pytest.raises(JournalError) as raised:
        Writer(place)

    assert str(raised.value) == f"{place} cannot be written: Not a directory. Choose another --run-dir"


def test_a_run_makes_its_directories(tmp_path):
    """However deep a run directory is, it is made; a second run is told where to go."""
    place = tmp_path / "of/this/week/journal.jsonl"
    writer = Writer(place)
    writer.close()
    assert writer.path == place

    with pytest.raises(JournalError) as raised:
        Writer(place)

    assert str(raised.value) == f"{place} exists: a journal is never overwritten. Choose another --run-dir"


def test_a_run_directory_that_is_a_file(tmp_path):
    """A file in the place of a run directory is named, and it stays as it is."""
    file = tmp_path / "run"
    file.write_text("mine")

    with pytest.raises(JournalError) as raised:
        Writer(file / "journal.jsonl")

    assert str(raised.value) == f"{file} is a file, expected a directory for a journal. Choose another --run-dir"
    assert file.read_text() == "mine"


def test_the_longest_line(tmp_path, monkeypatch):
    """A line of just the length that a record may have is read, one byte more is refused."""
    written(tmp_path / "journal.jsonl", HEADER)
    size = (tmp_path / "journal.jsonl").stat().st_size

    monkeypatch.setattr(journal, "LONGEST_LINE", size)
    assert read(tmp_path).header["cards"] == [0]
    monkeypatch.setattr(journal, "LONGEST_LINE", size - 1)
    with pytest.raises(JournalError, match="line 1: longer than"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89PNG\n", ", line 1: not a journal: byte 0 is no UTF-8"),
        (
            b"hello\n",
            ", line 1: not JSON (Expecting value: line 1 column 1 (char 0)). The journal was damaged or edited",
        ),
        (
            forged({**HEADER, "schema": 99}).encode(),
            ", line 1: schema 99, but this version reads schema 2. Use the version of the suite that wrote it",
        ),
        (
            forged(HEADER).encode() + b'{"type":"footer"}\n',
            ', line 2: it does not end with "sha256": this line was edited, or lines before it were removed, repeated, '
            "moved or brought from another journal. Use the journal as the run wrote it",
        ),
        (
            forged(HEADER).encode() * 2,
            ", line 2: a second header; two runs were written into one file",
        ),
        (forged(HEADER, FOOTER, TEST).encode(), ", line 3: a record after the footer"),
        (forged(TEST).encode(), ", line 1: expected the header, found a record of type test"),
        (
            forged(HEADER, {**TEST, "nodeid": 3, "checks": "x"}).encode(),
            ", line 2: a record of type test with a malformed nodeid, checks",
        ),
        (None, ": cannot be read: No such file or directory. Give a journal or the directory of a run"),
    ],
)
def test_refusals_in_full(tmp_path, content, said):
    """Where it is, what is wrong, and what to do where something can be done."""
    place = tmp_path / "journal.jsonl"
    if content is not None:
        place.write_bytes(content)

    with pytest.raises(JournalError) as raised:
        read(place)

    assert str(raised.value) == f"{place}{said}"

"""A journal is complete at every moment, is never overwritten, and says in words what is wrong with a damaged one."""

import json
import subprocess
import sys

import pytest

from conftest import ROOT
from reports import journal
from reports.journal import JournalError, Writer, read

HEADER = {"type": "header", "schema": journal.SCHEMA}
TEST = {"type": "test", "nodeid": "a", "requirement": "a/b", "outcome": "PASS"}
FOOTER = {"type": "footer", "verdict": "CONFORMANT"}


def written(path, *records) -> None:
    """A journal file with those records."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_what_is_written_is_read(tmp_path):
    """Records come back as they were written, in order, with the time at which they were."""
    writer = Writer(tmp_path / "run/journal.jsonl")
    for record in (HEADER, {"type": "selection", "tests": [{"nodeid": "a"}]}, TEST, FOOTER):
        writer.append(record)
    writer.close()

    found = read(tmp_path / "run")

    assert found.tests[0]["requirement"] == "a/b"
    assert found.tests[0]["time"].endswith("Z")
    assert found.selection == ({"nodeid": "a"},)
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
        (b"\x89PNG\r\n\x1a\n", "journal.jsonl: not a journal: byte 0 is no UTF-8"),
        (b"hello\n", "journal.jsonl, line 1: not JSON"),
        (b"[]\n", 'line 1: not a record; expected "type" to be one of header, selection, stack, test, footer'),
        (b'{"type": "other"}\n', "line 1: not a record"),
        (b'{"type": "test"}\n', "line 1: expected the header, found a record of type test"),
        (b'{"type": "header", "schema": 99}\n', "line 1: schema 99, but this version reads schema 1"),
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


def test_reports_import_no_torch():
    """Reading, judging and summing up import neither torch nor a library under test, nor the machinery of the tests."""
    program = (
        "import sys, reports.journal, reports.verdict, reports.summary\n"
        "heavy = {'torch', 'torch_npu', 'transformers', 'numpy', 'fixtures', 'pytest'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_header_says_what_was_tested(suite):
    """The header has versions, environment, system, revision, command line, and whether the cards were emulated."""
    ran = suite(
        """
        @pytest.mark.host
        @requirement("demo/passes")
        def test_passes(evidence):
            '''A thing works.'''
            evidence.check_equal("x", 1, 1)
        """,
        *("-n", "0"),
    )
    header = ran.records[0]

    assert header["schema"] == journal.SCHEMA
    assert header["emulated"] is False
    assert header["versions"]["torch_npu"] == "2.13.0"
    assert header["versions"]["triton-ascend"] is None
    assert header["builds"]["torch_npu"].startswith("c798c653")
    assert header["python"] == sys.version.split()[0]
    assert header["architecture"]
    assert header["command"][-2:] == ["-n", "0"]
    assert ran.records[-1]["type"] == "footer"
    assert ran.records[-1]["verdict"] == "CONFORMANT"

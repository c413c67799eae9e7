"""JUnit, CTRF, Markdown and CSV of a run: complete, true to the journal, and safe whatever a journal says."""

import csv
import io
import json
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from made_runs import ended, made, records, write

from reports import ctrf, junit, markdown, table
from reports.__main__ import main
from reports.outcome import Outcome
from reports.run import load

WAIVER = {"defect": "D1", "reason": "it is broken", "link": "https://example.org/1", "expires": "2027-05-25"}
EVIL = "\x00\x1b[31m</testcase><script>alert(1)</script> | `x` [a](javascript:b) @all =cmd()\ud800"
RENDERERS = {"junit": junit.render, "ctrf": ctrf.render, "markdown": markdown.render, "csv": table.render}


@pytest.fixture
def run(tmp_path):
    """A run in which every outcome occurs, each in a requirement of its own."""
    tests = [
        ended(
            str(outcome),
            f"demo/{str(outcome).lower().replace('_', '-')}",
            waiver=WAIVER if outcome == "XFAIL" else None,
        )
        for outcome in Outcome
    ]
    made(tmp_path, *tests, ended("PASS", "other/thing", features=["fp16", "single_npu"], log="said\nso"))
    return load(tmp_path)


def test_junit_has_every_test(run):
    """JUnit has a case for each test, in the suite of its library, with the element that its outcome is."""
    root = ElementTree.fromstring(junit.render(run))

    cases = {case.get("name"): case for case in root.iter("testcase")}
    elements = {
        name.removeprefix("test_").upper(): next(
            (e for e in ("failure", "error", "skipped") if case.find(e) is not None), None
        )
        for name, case in cases.items()
    }
    assert [suite.get("name") for suite in root] == ["demo", "other", "verdict"]
    assert elements == {
        "PASS": None, "FAIL": "failure", "XFAIL": "skipped", "XPASS": "failure", "UNSUPPORTED": "skipped",
        "NOT_RUN": "skipped", "VACUOUS": "failure", "CRASH": "error", "TIMEOUT": "error", "DEVICE_LOST": "error",
        "INFRA": "error", "THING": None, "VERDICT": "failure",
    }  # fmt: skip
    assert (root.get("tests"), root.get("failures"), root.get("errors"), root.get("skipped")) == ("13", "4", "4", "3")
    assert cases["test_xfail"].find("skipped").get("message") == "waived: AssertionError: expected: 4"
    assert cases["test_fail"].find("failure").text.endswith('reproduce: python -m emulator pytest -n 0 '
        '"tests/demo/test_written.py::test_fail"')  # fmt: skip
    facts = {one.get("name"): one.get("value") for one in cases["test_xfail"].iter("property")}
    assert facts["outcome"] == "XFAIL"
    assert facts["waiver"] == "D1: https://example.org/1"
    assert cases["test_thing"].find("system-out").text == "said\nso"
    assert {"emulated": "yes", "torch_npu": "2.13.0"}.items() <= {
        one.get("name"): one.get("value") for one in root.find("testsuite/properties")
    }.items()


def test_junit_says_when_a_run_is_incomplete(tmp_path):
    """The last case passes for a CONFORMANT run alone; a killed run, whose tests all passed, fails it."""
    made(tmp_path / "whole", ended("PASS"))
    write(tmp_path / "killed", records([ended("PASS")])[:-1])

    whole, killed = (ElementTree.fromstring(junit.render(load(tmp_path / name))) for name in ("whole", "killed"))

    assert whole.get("failures") == "0"
    assert killed.get("failures") == "1"
    assert "the run was killed before its end" in killed.find("testsuite[@name='verdict']/testcase/failure").text


def test_ctrf_conforms(run):
    """The JSON conforms to CTRF's own schema, which allows no property that it does not know."""
    schema = json.loads((Path(__file__).parent / "schemas/ctrf-schema-0.0.json").read_text())
    report = json.loads(ctrf.render(run))
    conforming = jsonschema.Draft7Validator(schema, format_checker=jsonschema.FormatChecker())

    errors = [f"{'.'.join(map(str, error.path))}: {error.message}" for error in conforming.iter_errors(report)]
    assert not errors
    assert len(report["results"]["tests"]) == 12
    assert isinstance(report["results"]["environment"]["healthy"], bool)
    del report["results"]["tests"][0]["status"]
    assert not conforming.is_valid(report)


def test_ctrf_counts(run):
    """The summary counts what the tests say; a waived failure is neither passed nor failed."""
    results = json.loads(ctrf.render(run))["results"]

    statuses = {test["rawStatus"]: test["status"] for test in results["tests"]}
    assert {raw for raw, status in statuses.items() if status == "passed"} == {"PASS"}
    assert statuses["XFAIL"] == "other"
    counted = {name: results["summary"][name] for name in ("tests", "passed", "failed", "skipped", "pending", "other")}
    assert counted == {"tests": 12, "passed": 2, "failed": 6, "skipped": 2, "pending": 0, "other": 2}
    assert results["summary"]["extra"]["verdict"] == "NOT CONFORMANT"
    assert results["summary"]["stop"] >= results["summary"]["start"] > 1_700_000_000_000


def test_markdown_says_what_matters(run):
    """The summary begins with the verdict, says EMULATED, and has matrix, failures, waived and undecided ones."""
    text = markdown.render(run)

    assert text.startswith("## ❌ NOT CONFORMANT on 1 EMULATED card \\(Ascend910B3\\): 2 passed, 1 FAIL, 1 waived")
    assert "> **EMULATED cards**" in text
    assert "| demo | – | **1/10**<br>6 failed<br>1 waived<br>2 open | **1/10**<br>" in text
    assert "### Failures (6)" in text
    assert '  python -m emulator pytest -n 0 "tests/demo/test_written.py::test_fail"' in text
    assert "<summary>Waived (1)</summary>\n\n- **D1** in demo/xfail: it is broken" in text
    assert "<summary>Not decided (2)</summary>" in text


def test_csv_is_the_matrix(run):
    """The CSV has a line for each library and feature that occurs, and one over all features."""
    rows = list(csv.DictReader(io.StringIO(table.render(run))))

    assert [(row["library"], row["feature"]) for row in rows] == [
        ("demo", "single_npu"), ("demo", "all"), ("other", "fp16"), ("other", "single_npu"), ("other", "all"),
    ]  # fmt: skip
    assert rows[1] == {
        "library": "demo", "feature": "all", "passed": "1", "ran": "10", "failed": "6", "waived": "1", "open": "2",
    }  # fmt: skip


@pytest.mark.parametrize("name", RENDERERS)
def test_hostile_journals(tmp_path, name):
    """Whatever texts a journal has, each export is well-formed and brings none of its markup or formulas."""
    test = ended("FAIL", reason=EVIL, sentence=EVIL, library=EVIL, nodeid=EVIL, reproduce=EVIL, log=EVIL, worker=EVIL)
    waived = ended("XFAIL", "demo/b", reason=EVIL, waiver=dict.fromkeys(WAIVER, EVIL), features=[EVIL])
    spreadsheet = ended("PASS", "demo/c", library="=cmd()", features=["@sum"])
    made(tmp_path, test, waived, spreadsheet, header={"os": EVIL, "versions": {EVIL: EVIL}, "machine": {"name": EVIL}})

    text = RENDERERS[name](load(tmp_path))

    if name == "junit":
        assert ElementTree.fromstring(text).get("tests") == "4"
    elif name == "ctrf":
        assert json.loads(text)["results"]["tests"][0]["name"] == EVIL
    elif name == "csv":
        cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
        assert "'=cmd()" in cells
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    else:
        prose = "\n".join(line for line in text.splitlines() if not line.startswith("  "))
        assert "<script" not in prose
        assert "](javascript" not in prose
        assert "@all" not in prose
        assert "\\`x\\`" in prose


def test_a_fence_cannot_be_ended():
    """A reason with a fence of its own stays inside of the block."""
    block = markdown._block("a\n````\n<b>").splitlines()

    assert block[0] == block[-1] == "  `````"


@pytest.mark.parametrize("name", RENDERERS)
def test_commands_write_whole_files(tmp_path, capsysbinary, name):
    """Each command writes to standard output, or whole to a file; a directory that is not there is one message."""
    made(tmp_path, ended("PASS"))
    expected = RENDERERS[name](load(tmp_path))

    assert main([name, str(tmp_path)]) == 0
    assert capsysbinary.readouterr().out.decode() == expected
    assert main([name, str(tmp_path), "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out").read_text() == expected
    assert main([name, str(tmp_path), "-o", str(tmp_path / "none/out")]) == 2
    said = capsysbinary.readouterr().err.decode()
    assert "none/out: cannot be written: No such file or directory" in said
    assert len(said.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal.jsonl", "out"]

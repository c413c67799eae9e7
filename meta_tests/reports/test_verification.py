"""``python -m reports verify``: what it accepts, and each way in which a result set is no evidence."""

import subprocess
import sys
from pathlib import Path

import pytest
from made_runs import HEADER, STACK, ended, forged, made, records, write

from reports import journal
from reports import run as runs
from reports.__main__ import main
from reports.journal import read
from reports.run import load
from reports.verification import problems

ROOT = Path(__file__).resolve().parents[2]
A, B = ended("PASS", "demo/a"), ended("XFAIL", "demo/b")


def test_a_complete_run_is_verified(tmp_path, capsys):
    """A run as the suite writes it is verified, with its verdict."""
    made(tmp_path, A, B)

    assert main(["verify", str(tmp_path)]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "verified: 1 journal(s), 2 tests (1 PASS, 1 XFAIL)",
        "verdict: CONFORMANT on 1 EMULATED card (Ascend910B3): 1 passed, 1 waived",
    ]


def test_a_failed_run_is_verified_too(tmp_path):
    """Verifying is about completeness; a complete run that is not conformant is evidence as well."""
    made(tmp_path, ended("FAIL"))

    assert main(["verify", str(tmp_path)]) == 0


def test_a_killed_run_is_loaded_but_not_verified(tmp_path, capsys):
    """A journal without a footer and with a torn last line is loaded, says what is missing, and is not verified."""
    file = write(tmp_path, records([A, B])[:-2])
    with file.open("a") as journal:
        journal.write('{"type":"test","node')

    found = load(tmp_path)

    assert found.complete is False
    assert [test["nodeid"] for test in found.tests] == [A["nodeid"]]
    assert [test["nodeid"] for test in found.missing] == [B["nodeid"]]
    assert [test["outcome"] for test in found.all_tests()] == ["PASS", "NOT_RUN"]
    assert main(["verify", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"not verified: {file}: no footer, and its last line is cut off: the run was killed or the file truncated. "
        "Resume it, or run it again",
        f"not verified: {B['nodeid']}: was to be executed, and has no record",
    ]


@pytest.mark.parametrize("keep", range(1, 5))
def test_a_truncated_journal(tmp_path, keep):
    """However many lines are cut off at the end, the rest is not verified."""
    write(tmp_path, records([A, B])[:keep])

    assert any("no footer" in problem for problem in problems(load(tmp_path)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([*records([A])[:-1], A, records([A, A])[-1]], "line 5: a second record of tests/demo/test_written.py::test_a; "
         "the first is in "),
        ([*records([A])[:-1], B, records([A, B])[-1]], "line 5: tests/demo/test_written.py::test_b was not among the"),
        ([*records([A])[:-1], records([A, B])[-1]], "the footer counts 2 tests, the journal has 1"),
        ([*records([A])[:-2], ended("FAIL", "demo/a"), records([A])[-1]], "the footer says CONFORMANT, the tests give "
         "NOT CONFORMANT"),
        ([*records([A])[:-2], {**A, "level": "extended"}, records([A])[-1]], "test_a has another level than it was"),
        ([*records([A])[:3], {**STACK, "worker": "gw1", "chip": "Ascend910A"}, *records([A])[3:]],
         "worker gw1: another stack than worker gw0: chip is Ascend910A, not Ascend910B3"),
        (records([]), "no test was selected"),
    ],
)  # fmt: skip
def test_inconsistent_journals(tmp_path, content, message):
    """A journal that contradicts itself is not verified, even where its chain was forged along."""
    (tmp_path / "journal.jsonl").write_text(forged(*content))

    assert any(message in problem for problem in problems(load(tmp_path))), problems(load(tmp_path))


def test_shards_are_one_run(tmp_path):
    """Journals of one box and one environment, each with its part of the tests, are verified as one run."""
    made(tmp_path / "1", A, header={"environment": {"ASCEND_RT_VISIBLE_DEVICES": "0"}})
    made(tmp_path / "2", B, header={"environment": {"ASCEND_RT_VISIBLE_DEVICES": "4"}})

    found = load([tmp_path / "1", tmp_path / "2"])

    assert problems(found) == []
    assert len(found.tests) == 2


def test_journals_of_one_directory_are_one_run(tmp_path):
    """A directory with several journals is loaded as one run."""
    made(tmp_path / "journal.jsonl", A)
    made(tmp_path / "journal-2.jsonl", B)

    assert problems(load(tmp_path)) == []
    assert len(load(tmp_path).journals) == 2


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"machine": {"name": "other", "boot": "b1", "id": "m1"}}, "line 1: written on another machine than "),
        ({"versions": {**HEADER["versions"], "torch_npu": "2.12.0"}}, "versions torch_npu is 2.12.0, not 2.13.0"),
        ({"cann": {"version": "8.5.0"}}, "cann version is 8.5.0, not None"),
        ({"emulated": False}, "emulated is False, not True"),
        ({"environment": {"INF_NAN_MODE_ENABLE": "0"}}, "variable INF_NAN_MODE_ENABLE is 0, not 1"),
        ({"driver": "25.2"}, "driver is 25.2, not None"),
        ({"revision": "abc"}, "revision is abc, not None"),
    ],
)
def test_shards_of_different_boxes_or_environments(tmp_path, header, message):
    """Journals of two machines, or of one whose environment changed in between, are no run."""
    made(tmp_path / "1", A)
    made(tmp_path / "2", B, header=header)

    found = problems(load([tmp_path / "1", tmp_path / "2"]))

    assert any(message in problem for problem in found), found


def test_a_container_and_a_reboot_are_no_other_box(tmp_path):
    """Machines are the same by the boot they share, or by their id where they booted again."""
    made(tmp_path / "1", A)
    made(tmp_path / "2", B, header={"machine": {"name": "container", "boot": "b0", "id": None}})
    made(tmp_path / "3", ended("PASS", "demo/c"), header={"machine": {"name": "box", "boot": "b9", "id": "m0"}})

    assert problems(load([tmp_path / "1", tmp_path / "2", tmp_path / "3"])) == []


def test_shards_of_several_machines(tmp_path, capsys):
    """Shards of one run may come from machines of one kind, which are named; with another environment they may not."""
    machines = [{"name": name, "boot": name, "id": name} for name in ("a", "b")]
    made(tmp_path / "1", A, header={"shard": "1/2", "machine": machines[0]})
    made(tmp_path / "2", B, header={"shard": "2/2", "machine": machines[1]})
    made(tmp_path / "3", B, header={"shard": "2/2", "machine": machines[1], "driver": "25.2"})

    assert main(["verify", str(tmp_path / "1"), str(tmp_path / "2")]) == 0
    assert "2 tests (1 PASS, 1 XFAIL) on 2 machines (a, b)" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "1"), str(tmp_path / "3")]) == 1


def test_the_same_shard_twice(tmp_path):
    """A journal that was given twice is not verified."""
    file = made(tmp_path / "1", A)
    (tmp_path / "copy.jsonl").write_bytes(file.read_bytes())

    found = problems(load([tmp_path / "1", tmp_path / "copy.jsonl"]))

    assert any("copy.jsonl: the same journal was given twice" in problem for problem in found)
    assert any("a second record of" in problem for problem in found)


def test_a_resumed_run_is_one_run(tmp_path):
    """A killed journal, and one that resumes it and executes the rest, are verified as one run."""
    killed = write(tmp_path / "journal.jsonl", records([A, B])[:-2])
    identity = runs.header_id(read(killed))
    made(tmp_path / "journal-2.jsonl", B, header={"resumes": [identity]})

    found = load(tmp_path)

    assert problems(found) == []
    assert found.complete
    assert len(found.tests) == 2


def test_what_was_not_reached_is_superseded(tmp_path, monkeypatch):
    """NOT_RUN records of an interrupted run give way to those of the run that resumes it, whatever the clock says."""
    clock = iter(f"2026-11-25T12:00:{second:02}.000Z" for second in reversed(range(60)))
    monkeypatch.setattr(journal, "now", lambda: next(clock))
    first = made(tmp_path / "journal.jsonl", A, ended("NOT_RUN", "demo/b"), ended("NOT_RUN", "demo/c"))
    made(tmp_path / "journal-2.jsonl", B, header={"resumes": [runs.header_id(read(first))]})

    found = load(tmp_path)

    assert [(test["requirement"], test["outcome"]) for test in found.tests] == [
        ("demo/a", "PASS"), ("demo/c", "NOT_RUN"), ("demo/b", "XFAIL"),
    ]  # fmt: skip
    assert problems(found) == []


def test_what_had_an_outcome_is_not_superseded(tmp_path):
    """A resumed run that executes again what had ended already does not verify: the failure of before stays."""
    first = write(tmp_path / "journal.jsonl", records([ended("FAIL", "demo/a"), B])[:-2])
    made(tmp_path / "journal-2.jsonl", A, B, header={"resumes": [runs.header_id(read(first))]})

    found = load(tmp_path)

    assert any("a second record of" in problem for problem in problems(found))
    assert found.verdict.verdict == "NOT CONFORMANT"


def test_runs_that_are_not_there(tmp_path, capsys):
    """A missing file, a directory without a journal and a directory in a journal's place each get one message."""
    for path, message in (
        (tmp_path / "nothing", "nothing: cannot be read: No such file or directory."),
        (tmp_path, "no journal (journal.jsonl) there. Give a journal or the directory of a run"),
    ):
        assert main(["verify", str(path)]) == 2
        said = capsys.readouterr().err.strip()
        assert message in said
        assert len(said.splitlines()) == 1


def test_the_command_says_one_thing(tmp_path):
    """As a command: exit code 2, one line, no traceback for input that cannot be used; help without one."""
    (tmp_path / "journal.jsonl").write_bytes(bytes(1000))
    command = [sys.executable, "-m", "reports"]
    done = subprocess.run([*command, "verify", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr.startswith("python -m reports verify: ")
    assert "Traceback" not in done.stderr
    helped = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert helped.returncode == 0
    assert "verify" in helped.stdout

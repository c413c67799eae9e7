"""A run that was interrupted or killed: what had finished is kept, --resume runs the rest, both verify as one run."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from conftest import ROOT, Ran
from fixtures.processes import marked
from meta_tests.unattended.tries import shared_memory
from reports import run as runs
from reports import verification

MARK = "MADE_UP_RUN"  # in the environment of all that a run starts
# Six tests; while the file "slow" exists, each after the second waits for ever.
TESTS = """
import pathlib, time

@pytest.mark.host
@pytest.mark.parametrize("number", range(6))
@requirement("demo/numbers")
def test_number(evidence, number):
    '''A number is itself.'''
    pathlib.Path("began").open("a").write(f"{number}\\n")
    while number >= 2 and pathlib.Path("slow").exists():
        time.sleep(0.05)
    evidence.check_equal("number", number, number)
"""


@pytest.fixture
def begun(suite, pytester, monkeypatch, tmp_path):
    """begun(*arguments) -> a run that has finished two tests and hangs in further ones, as a process."""

    def start(*arguments: str) -> subprocess.Popen:
        suite(TESTS, "--collect-only", "-q")  # writes the files
        (pytester.path / "slow").write_text("")
        monkeypatch.setenv(MARK, str(tmp_path))
        command = [sys.executable, "-m", "pytest", "--run-dir", "run", *arguments]
        out = (pytester.path / "out").open("w")
        process = subprocess.Popen(
            command, stdout=out, stderr=out, start_new_session=True, cwd=pytester.path,
            # Where these tests run in the background of a shell, Ctrl-C is ignored by all that they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        end = time.monotonic() + 60
        journal = pytester.path / "run/journal.jsonl"
        while time.monotonic() < end:
            began = pytester.path / "began"
            busy = began.exists() and len(began.read_text().splitlines()) >= 3
            if busy and journal.read_text().count('"type":"test"') >= 2:
                return process
            time.sleep(0.05)
        raise AssertionError((pytester.path / "out").read_text())

    return start


def left(tmp_path, patience: float = 20.0) -> list:
    """The processes of the run that are still there when it has had time to end."""
    end = time.monotonic() + patience
    while (found := marked(MARK, str(tmp_path))) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def resume(pytester, *arguments: str) -> Ran:
    """Runs what is missing."""
    (pytester.path / "slow").unlink()
    done = pytester.run(sys.executable, "-m", "pytest", "--resume=run", *arguments, timeout=120)
    return Ran(done.ret, done.stdout.str(), done.stderr.str(), pytester.path)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_killed_controller(begun, pytester, tmp_path, monkeypatch, workers):
    """SIGKILL of the controller loses nothing that had finished and leaves no process and no file; the rest can be run
    later, once.
    """
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("PYTEST_DEBUG_TEMPROOT", str(temporary))
    before = set(os.listdir("/dev/shm"))
    process = begun("-n", workers)
    process.kill()
    process.wait()

    assert left(tmp_path) == []
    assert shared_memory(before) == set()
    if workers != "0":
        assert [path.name for path in temporary.glob("*/pytest-*") if not path.is_symlink()] == []
    killed = runs.load(pytester.path / "run")
    assert not killed.complete
    finished = {test["nodeid"] for test in killed.tests}
    assert len(finished) == 2

    ran = resume(pytester, "-n", workers)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    whole = runs.load(pytester.path / "run")
    assert whole.complete
    assert verification.problems(whole) == []
    assert len(whole.tests) == 6
    again = [json.loads(line) for line in (pytester.path / "run/journal-2.jsonl").read_text().splitlines()]
    assert finished.isdisjoint(record["nodeid"] for record in again if record["type"] == "test")
    assert ran.verdict.startswith("verdict: CONFORMANT on no card: 1 passed")


@pytest.mark.parametrize(("number", "told"), [(signal.SIGINT, "was interrupted"), (signal.SIGTERM, "ended by SIGTERM")])
@pytest.mark.parametrize("workers", ["0", "2"])
def test_an_interrupted_run(begun, pytester, tmp_path, workers, number, told):
    """Ctrl-C and SIGTERM print the summary of what is done; what is not is NOT_RUN, and can be run later."""
    process = begun("-n", workers)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    process.wait(60)
    out = (pytester.path / "out").read_text()

    assert re.search(r"^demo +0/1$", out, re.MULTILINE), out
    assert "verdict: INCOMPLETE" in out.splitlines()[-1]
    assert left(tmp_path) == []
    interrupted = runs.load(pytester.path / "run")
    outcomes = [test["outcome"] for test in interrupted.tests]
    assert sorted(outcomes) == ["NOT_RUN"] * 4 + ["PASS"] * 2
    assert all(told in test["reason"] for test in interrupted.tests if test["outcome"] == "NOT_RUN")

    ran = resume(pytester, "-n", workers)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert verification.problems(runs.load(pytester.path / "run")) == []


def test_a_failure_before_the_resumption(suite, pytester):
    """A resumed run is judged as a whole: what failed before keeps it from being CONFORMANT, and is shown again."""
    code = """
    @pytest.mark.host
    @requirement("demo/{name}")
    def test_{name}(evidence):
        '''A thing works.'''
        evidence.check_equal("sum", {sum}, 4)
    """
    suite(code.format(name="bad", sum=5) + code.format(name="good", sum=4), "-n", "0", "-x")

    done = pytester.run(sys.executable, "-m", "pytest", "--resume=run", "-n", "0")

    assert done.ret == 1
    assert "FAIL demo/bad" in done.stdout.str()
    assert done.stdout.str().rstrip().splitlines()[-1] == "verdict: NOT CONFORMANT on no card: 1 passed, 1 FAIL"
    assert verification.problems(runs.load(pytester.path / "run")) == []


def test_nothing_is_missing(suite, pytester):
    """A complete run is not touched."""
    suite(TESTS, "-n", "0")

    done = pytester.run(sys.executable, "-m", "pytest", "--resume=run")

    assert done.ret == 0
    assert "nothing is missing in" in done.stdout.str() + done.stderr.str()
    assert len(list((pytester.path / "run").glob("journal*"))) == 1


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize(("broken", "code", "verdict"), [
    ("", 0, "verdict: CONFORMANT on no card: 1 passed"),
    ("\n    evidence.check_equal('number', number, 5)", 1, "verdict: NOT CONFORMANT on no card: 1 FAIL"),
])  # fmt: skip
def test_a_run_killed_after_its_last_test(suite, pytester, workers, broken, code, verdict):
    """Nothing is executed again, and the run gets the end, the verdict and the exit code that it lacked; once."""
    suite(TESTS + broken, "-n", "0")
    journal = pytester.path / "run/journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))

    ended = pytester.run(sys.executable, "-m", "pytest", "--resume=run", "-n", workers, timeout=120)
    again = pytester.run(sys.executable, "-m", "pytest", "--resume=run", "-n", workers, timeout=120)

    assert (ended.ret, again.ret) == (code, code), ended.stdout.str()
    assert ended.stdout.str().rstrip().splitlines()[-1] == verdict
    assert "nothing is missing in" in again.stdout.str() + again.stderr.str()
    found = runs.load(pytester.path / "run")
    assert verification.problems(found) == []
    assert (len(found.journals), len(found.tests)) == (2, 6)


def test_a_run_killed_before_its_first_test(suite, pytester):
    """A run that had not yet chosen its tests cannot be resumed, and the message says so."""
    suite(TESTS, "-n", "0")
    journal = pytester.path / "run/journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:1]))

    done = pytester.run(sys.executable, "-m", "pytest", "--resume=run")

    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert "was killed before it had chosen its tests" in done.stderr.str()


def test_another_environment(suite, pytester, monkeypatch):
    """A run is not continued with another stack or other settings; the message says what differs."""
    suite(TESTS, "-n", "0", "-x", "--maxfail=1", "-k", "number")
    journal = pytester.path / "run/journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:4]))  # as if killed
    monkeypatch.setenv("HCCL_DETERMINISTIC", "true")

    done = pytester.run(sys.executable, "-m", "pytest", "--resume=run", "-n", "0")

    assert "variable HCCL_DETERMINISTIC was None, is true. Begin a new run" in done.stderr.str()
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert [path.name for path in (pytester.path / "run").glob("journal*")] == ["journal.jsonl"]


def test_a_run_that_goes_on(begun, pytester):
    """A run that another session is still writing is not resumed."""
    process = begun("-n", "0")
    done = pytester.run(sys.executable, "-m", "pytest", "--resume=run", "-n", "0", timeout=60)
    process.kill()
    process.wait()

    assert "is still being written by another session" in done.stderr.str()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--resume=nowhere",), "neither a directory, nor one below"),
        (("--resume=last",), "there is no run below"),
        (("--resume=run", "-m", "fp16"), "so it takes no --run-dir"),
        (("--resume=run", "tests/test_written.py"), "so it takes no --run-dir"),
        (("--shard=3/2",), "write --shard I/N with 1 <= I <= N"),
        (("--shard=x",), "write --shard I/N with 1 <= I <= N"),
    ],
)
def test_what_cannot_be_meant(suite, pytester, arguments, message):
    """Each contradiction has its message."""
    suite(TESTS, "-n", "0")

    done = pytester.run(sys.executable, "-m", "pytest", *arguments)

    assert message in done.stderr.str()
    assert done.ret == pytest.ExitCode.USAGE_ERROR


def test_shards(suite, pytester):
    """Each test is in exactly one shard, and the shards verify as one run."""
    directories = []
    for number in (1, 2, 3):
        suite(TESTS, "-n", "0", f"--shard={number}/3", "--collect-only")
        done = pytester.run(sys.executable, "-m", "pytest", "-n", "0", f"--shard={number}/3", f"--run-dir=run{number}")
        assert done.ret == 0, done.stdout.str()
        directories.append(pytester.path / f"run{number}")

    whole = runs.load(directories)

    assert [len(runs.load(directory).tests) for directory in directories] == [2, 2, 2]
    assert sorted(test["nodeid"] for test in whole.tests) == [
        f"tests/test_written.py::test_number[{number}]" for number in range(6)
    ]
    assert verification.problems(whole) == []


def test_the_suites_own_directory():
    """The suite's own tests are divided into shards of about equal work, in whole modules where possible."""
    from fixtures import durations, selection

    times = durations.shipped()
    nodeids = sorted(times)
    parts = [selection.shard(nodeids, number, 4, times) for number in (1, 2, 3, 4)]

    assert sorted(nodeid for part in parts for nodeid in part) == nodeids
    work = [sum(times[nodeid].work for nodeid in part) for part in parts]
    longest = max((times[nodeid].work for nodeid in nodeids), default=0.0)
    assert max(work) - min(work) <= longest + 1e-6
    assert (ROOT / "fixtures/durations.json").is_file()

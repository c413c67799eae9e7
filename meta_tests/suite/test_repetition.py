"""--repeat tells stable tests from flaky ones, and never changes the verdict."""

import json

from reports import flakiness, verification
from reports import run as runs

# The second execution of the flaky one fails; that of the deadly one ends its process.
TESTS = """
import os, pathlib
executions = pathlib.Path("executions")

def execution(name):
    executions.mkdir(exist_ok=True)
    count = len(list(executions.glob(f"{name}-*"))) + 1
    (executions / f"{name}-{count}").write_text("")
    return count

@pytest.mark.host
@requirement("demo/stable")
def test_stable(evidence):
    '''A thing works always.'''
    evidence.check_equal("executions", execution("stable") > 0, True)

@pytest.mark.host
@requirement("demo/flaky")
def test_flaky(evidence):
    '''A thing works sometimes.'''
    evidence.check_equal("even", execution("flaky") % 2, 1)
"""
DEADLY = """
@pytest.mark.host
@requirement("demo/deadly")
def test_deadly(evidence):
    '''A thing works once.'''
    if execution("deadly") == 2:
        os._exit(3)
    evidence.check_equal("sum", 4, 4)
"""


def test_flaky_tests_are_labelled(suite, pytester):
    """Each test is executed N times; who does not always end alike is flaky, with counts; the first time is judged."""
    ran = suite(TESTS, "-n", "0", "--repeat", "4")

    assert ran.outcomes == {"test_stable": "PASS", "test_flaky": "PASS"}
    assert ran.returncode == 0
    assert ran.verdict == "verdict: CONFORMANT on no card: 2 passed"
    assert "repeated: 1 stable, 1 flaky" in ran.stdout
    assert "demo/flaky: flaky (2 PASS, 2 FAIL)" in ran.stdout
    repeats = [record for record in ran.records if record["type"] == "repeat"]
    assert [repeat["number"] for repeat in repeats] == [2, 3, 4, 2, 3, 4]
    whole = runs.load(pytester.path / "run")
    assert verification.problems(whole) == []
    found = flakiness.labels(whole.tests, whole.journals[0].repeats)
    assert {label.requirement: label.stable for label in found} == {"demo/stable": True, "demo/flaky": False}


def test_a_repetition_that_dies(suite):
    """A worker that dies while it repeats a test is that repetition's crash; the test keeps its outcome."""
    ran = suite(TESTS + DEADLY, "-n", "1", "--repeat", "2")

    assert ran.outcomes == {"test_stable": "PASS", "test_flaky": "PASS", "test_deadly": "PASS"}
    assert "demo/deadly: flaky (1 PASS, 1 CRASH)" in ran.stdout
    assert ran.returncode == 0


def test_one_execution(suite):
    """Without --repeat nothing is repeated, and nothing is said of it."""
    ran = suite(TESTS, "-n", "0")

    assert "repeated" not in ran.stdout
    assert len(list((ran.directory / "executions").iterdir())) == 2
    assert "repeat" not in {json.loads(line)["type"] for line in (ran.directory / "run/journal.jsonl").open()}

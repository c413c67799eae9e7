"""Crashes, hangs and poisoned processes: each test gets the outcome it deserves, and nothing that had finished is
lost.
"""

import pytest

CRASHES = {
    "segmentation fault": ("import ctypes; ctypes.string_at(0)", "Fatal Python error: Segmentation fault"),
    "abort": ("import os; os.abort()", "Fatal Python error: Aborted"),
    "exit": ("import os; os._exit(3)", "the process died without a word"),
    "kill": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "the process died without a word"),
}
AROUND = """
@pytest.mark.host
@requirement("demo/before")
def test_before(evidence):
    '''A thing works before.'''
    evidence.check_equal("sum", 4, 4)

@pytest.mark.host
@requirement("demo/dies")
def test_dies():
    '''A thing survives.'''
    {code}

@pytest.mark.host
@requirement("demo/after")
def test_after(evidence):
    '''A thing works after.'''
    evidence.check_equal("sum", 4, 4)

@pytest.mark.host
@requirement("demo/last")
def test_last(evidence):
    '''A thing works at last.'''
    evidence.check_equal("sum", 4, 4)
"""


@pytest.mark.parametrize("kind", CRASHES)
def test_a_crash(suite, kind):
    """A test whose process dies is a CRASH with the reason; every other test runs once and passes."""
    code, reason = CRASHES[kind]
    ran = suite(AROUND.format(code=code), "-n", "1")

    assert ran.outcomes == {"test_before": "PASS", "test_dies": "CRASH", "test_after": "PASS", "test_last": "PASS"}
    assert len([record for record in ran.records if record["type"] == "test"]) == 4
    assert reason in ran.tests["test_dies"]["reason"]
    assert ran.returncode == 1
    assert ran.verdict.startswith("verdict: NOT CONFORMANT")


def test_the_stacks_of_a_crash_are_kept(suite):
    """Where the process was when it crashed is in the record of the test."""
    ran = suite(AROUND.format(code="import ctypes; ctypes.string_at(0)"), "-n", "1")

    assert "in test_dies" in ran.tests["test_dies"]["log"]


def test_a_hang(suite):
    """A test that hangs in native code with the interpreter lock held is a TIMEOUT; its worker is replaced."""
    holds_the_lock = "import ctypes; ctypes.PyDLL(None).sleep(600)"
    ran = suite(AROUND.format(code=holds_the_lock), "-n", "1", "-o", "faulthandler_timeout=3")

    assert ran.outcomes == {"test_before": "PASS", "test_dies": "TIMEOUT", "test_after": "PASS", "test_last": "PASS"}
    assert ran.tests["test_dies"]["reason"] == "killed by the watchdog after 3 s"
    assert "in test_dies" in ran.tests["test_dies"]["log"]


def test_a_killed_run_keeps_what_had_finished(suite):
    """Without workers a crash ends the run; the journal has what was known, no footer, and can be read."""
    ran = suite(AROUND.format(code="import os; os._exit(3)"), "-n", "0")

    assert ran.returncode == 3
    assert [record["type"] for record in ran.records] == ["header", "selection", "test"]
    assert ran.outcomes == {"test_before": "PASS"}


# Stands in for a card that gives no right answer after a failure.
POISON = """
import fixtures.health

failed = []
fixtures.health.give_back = lambda: failed.append(True)

def check(config):
    if not failed:
        return None
    config.stash[fixtures.health.POISONED] = "the known-answer probe gave 0.0 for 65.0 in 4096 of 4096 elements"
    return config.stash[fixtures.health.POISONED]

fixtures.health.check = check
""" + AROUND.format(code="raise ValueError('operator failed')")


def test_a_poisoned_worker_takes_no_further_test(suite):
    """After a failure that leaves the process unable to compute, its worker ends, and no test that waited there is
    blamed.
    """
    ran = suite(POISON, "-n", "1")

    assert ran.outcomes == {"test_before": "PASS", "test_dies": "FAIL", "test_after": "PASS", "test_last": "PASS"}
    assert ran.tests["test_dies"]["poisoned"].startswith("the known-answer probe gave 0.0")
    workers = [ran.tests[name]["worker"] for name in ("test_before", "test_dies", "test_after", "test_last")]
    assert workers == ["gw0", "gw0", "gw1", "gw1"]
    assert len([record for record in ran.records if record["type"] == "test"]) == 4
    assert "1 failed, 3 passed" in ran.stdout
    assert "gw0: poisoned by tests/test_written.py::test_dies" in ran.stdout


def test_a_poisoned_process_ends_a_run_without_workers(suite):
    """Without workers the run stops, and what was not reached is NOT_RUN with the reason."""
    ran = suite(POISON, "-n", "0")

    assert ran.outcomes == {"test_before": "PASS", "test_dies": "FAIL", "test_after": "NOT_RUN", "test_last": "NOT_RUN"}
    assert "left this process unable to compute on its card" in ran.tests["test_last"]["reason"]
    assert ran.returncode != 0

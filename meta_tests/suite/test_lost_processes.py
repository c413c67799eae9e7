"""Crashes, hangs and poisoned processes: each test gets the outcome it deserves, and nothing that had finished is
lost.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from fixtures import processes
from fixtures.leases import Leases

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


# The next test is sent when the worker has gone, yet is not known to be.
SENT_TOO_LATE = """
from xdist.workermanage import WorkerController

send = WorkerController.send_runtest_some

def send_to_nobody(self, indices):
    if (self.gateway.id, list(indices)) == ("gw0", [2]):
        self.gateway.join()
    send(self, indices)

WorkerController.send_runtest_some = send_to_nobody
"""


def test_a_test_that_is_sent_to_a_worker_that_has_gone(suite):
    """A test whose worker ended before it could get it is run by the next one; the run goes on."""
    ran = suite(POISON, "-p", "late", "-n", "1", modules={"late": SENT_TOO_LATE})

    assert ran.outcomes == {"test_before": "PASS", "test_dies": "FAIL", "test_after": "PASS", "test_last": "PASS"}
    assert ran.tests["test_after"]["worker"] == "gw1"
    assert "INTERNALERROR" not in ran.stdout


def test_a_poisoned_process_ends_a_run_without_workers(suite):
    """Without workers the run stops, and what was not reached is NOT_RUN with the reason."""
    ran = suite(POISON, "-n", "0")

    assert ran.outcomes == {"test_before": "PASS", "test_dies": "FAIL", "test_after": "NOT_RUN", "test_last": "NOT_RUN"}
    assert "left this process unable to compute on its card" in ran.tests["test_last"]["reason"]
    assert ran.returncode != 0


def test_a_hang_that_the_watchdog_inside_does_not_end(suite):
    """A worker that outlives its limit, because its own watchdog is gone, is killed from outside, with its stacks."""
    code = "import faulthandler, time; faulthandler.cancel_dump_traceback_later(); time.sleep(600)"
    shorter = "import fixtures.watch\nfixtures.watch.GRACE = 1.0\n"
    options = ("-p", "shorter", "-n", "1", "-o", "faulthandler_timeout=3")
    ran = suite(AROUND.format(code=code), *options, modules={"shorter": shorter})

    assert ran.outcomes == {"test_before": "PASS", "test_dies": "TIMEOUT", "test_after": "PASS", "test_last": "PASS"}
    assert ran.tests["test_dies"]["reason"].startswith("killed from outside after 3 s")
    assert "in test_dies" in ran.tests["test_dies"]["log"]


def test_a_hang_at_import(suite):
    """Workers that hang while they import the tests are killed; the run ends and says so, and nothing passed."""
    code = "import ctypes, os\nif 'PYTEST_XDIST_WORKER' in os.environ: ctypes.PyDLL(None).sleep(600)\n"
    shorter = "import fixtures.watch\nfixtures.watch.START, fixtures.watch.GRACE = 2.0, 1.0\n"
    ran = suite(code + AROUND.format(code="pass"), "-p", "shorter", "-n", "1", modules={"shorter": shorter})

    assert "2 workers did not come to their first test within 2 s" in ran.stdout
    assert ran.returncode == pytest.ExitCode.INTERRUPTED
    assert ran.verdict.startswith("verdict: INCOMPLETE")


# A test whose command starts a process that leaves its group and its parents, as launchers do.
DETACHED = """
import os, pathlib, signal, subprocess, sys

@pytest.mark.host
@requirement("demo/detached")
def test_detached(command, leases, evidence):
    '''A command is started.'''
    child = "import pathlib, time; pathlib.Path(r'{here}', 'began').write_text(''); time.sleep(600)"
    with leases.card(0), leases.port() as port:
        pathlib.Path(r'{here}', 'port').write_text(str(port))
        command([sys.executable, "-c", f"import subprocess, sys, time; "
            f"subprocess.Popen([sys.executable, '-c', {{child!r}}], start_new_session=True); time.sleep(600)"])

@pytest.mark.host
@requirement("demo/after")
def test_after(leases, evidence):
    '''The card and the port are free.'''
    with leases.card(0):
        evidence.check_equal("sum", 4, 4)
"""


@pytest.mark.parametrize("victim", ["worker", "controller"])
def test_what_a_killed_process_leaves_behind(suite, pytester, monkeypatch, tmp_path, a_loadable_cann, victim):
    """SIGKILL of a worker, or of the controller, leaves no process of its commands, no lease and no port."""
    monkeypatch.setenv("MADE_UP_RUN", str(tmp_path))
    leases = tmp_path / "leases"
    env = {"NPU_EMULATOR_CARDS": "1", "NPU_CONFORMANCE_LEASES": str(leases), **a_loadable_cann}
    suite(DETACHED.format(here=tmp_path), "--collect-only", "-q", env=env)
    command = [sys.executable, "-m", "pytest", "--run-dir", "run", "-n", "1"]
    controller = subprocess.Popen(command, cwd=pytester.path, stdout=subprocess.PIPE, text=True)
    state = pytester.path / "run/workers/gw0.state"
    wait_for(lambda: (tmp_path / "began").exists())
    worker = json.loads(state.read_text())["pid"]
    os.kill(worker if victim == "worker" else controller.pid, signal.SIGKILL)
    out, _ = controller.communicate(timeout=60)

    wait_for(lambda: processes.marked("MADE_UP_RUN", str(tmp_path)) == [])
    free = Leases(leases, (0,))
    with free.card(0), socket.socket() as probe:
        probe.bind(("", int((tmp_path / "port").read_text())))
    if victim == "worker":
        assert "verdict: NOT CONFORMANT on 1 EMULATED card: 1 passed, 1 CRASH" in out


def wait_for(condition, seconds: float = 60.0) -> None:
    """Waits until something is so; fails where it does not become so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)

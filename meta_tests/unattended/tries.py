"""One try: a run in which something happens, and what became of it."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fixtures.processes import marked, signal_marked
from meta_tests.projects import FOREIGN, write_project
from meta_tests.unattended.interruptions import ALL_REDUCE, Interruption
from reports import verification
from reports.export import milliseconds
from reports.journal import read
from reports.run import Run, load

ROOT = Path(__file__).parents[2]
MARK = "NPU_CONFORMANCE_TRY"  # in the environment of all that belongs to a try
# Seconds: of a test; for a card to answer; for the whole run; for its processes to be gone. A night has 600 and 60.
LIMIT, CANARY, END, PATIENCE = 20, 20, 400, 20
SHORTER = f"import fixtures.watch\nfixtures.watch.CANARY, fixtures.watch.GRACE = {CANARY}.0, 10.0\n"


@dataclass(frozen=True)
class Try:
    """What became of a run.

    Attributes:
        outcomes: of the tests that did not pass, in the order in which they ended.
        recovery: seconds from what happened (to a card that never worked: from the start of the run) until the next
            result on the same card, or until the card was given up, or until the first result of the resumed run.
        lost: tests whose results were known when it happened, or which the run was to execute, without a result.
        left: what of the run is still there when it has ended: processes, locks, files; in words.
        problems: why the run is no evidence (reports/verification.py).
    """

    outcomes: tuple[str, ...]
    recovery: float
    lost: tuple[str, ...]
    left: tuple[str, ...]
    problems: tuple[str, ...]


def attempt(interruption: Interruption, folder: Path, limit: float = LIMIT) -> Try:
    """Runs the suite's machinery over tests of which one meets the interruption, on two emulated cards.

    ``limit``: seconds that a test may take, of which the first one of a worker needs some to import torch.

    Raises:
        subprocess.TimeoutExpired: the run did not end.
    """
    files = {"all_reduce.py": ALL_REDUCE, "shorter.py": SHORTER}
    write_project(folder, interruption.tests, files)
    (folder / "t").mkdir()
    mark, before, began = uuid.uuid4().hex, set(os.listdir("/dev/shm")), time.time()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)},
        **dict(pair.split("=", 1) for pair in interruption.environment),
        MARK: mark,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
        "TMPDIR": str(folder / "t"),
        "NPU_CONFORMANCE_LEASES": str(folder / "leases"),
        "NPU_EMULATOR_CARDS": "2",
        **({"NPU_EMULATOR_FAULTS": interruption.faults} if interruption.faults else {}),
    }
    try:
        known, happened = _run(folder, environment, limit, interruption.to_the_run)
        if interruption.to_the_run:
            (folder / "slow").unlink()
            _run(folder, environment, limit, resumed=True)
        found = load(folder / "run")
        tests = [test for test in found.tests if test["outcome"] != "NOT_RUN"]
        recorded = {test["nodeid"] for test in tests}
        return Try(
            outcomes=tuple(test["outcome"] for test in tests if test["outcome"] != "PASS"),
            recovery=_recovery(found, began if interruption.from_the_start else happened),
            lost=tuple(
                sorted({*known, *(test["nodeid"] for one in found.journals for test in one.selection)} - recorded)
            ),
            left=tuple(_left(folder, mark, before)),
            problems=tuple(verification.problems(found)),
        )
    finally:
        signal_marked(MARK, mark, signal.SIGKILL)


def _run(
    folder: Path,
    environment: Mapping[str, str],
    limit: float,
    then: signal.Signals | None = None,
    resumed: bool = False,
) -> tuple[set[str], float]:
    """Runs to the end. Returns the tests whose results were known when it happened, and when that was (0: it did not).

    ``then``: the signal that the controller gets when it has happened.
    """
    happens, journal = folder / "happened", folder / "run/journal.jsonl"
    if then:
        (folder / "slow").touch()
    happens.unlink(missing_ok=True)
    command = [sys.executable, "-m", "emulator", "pytest", "-p", "shorter", "-n", "2"]
    command += ["--resume=run"] if resumed else ["--run-dir=run"]
    with (folder / "output.txt").open("a") as output:
        suite = subprocess.Popen(
            [*command, "-o", f"faulthandler_timeout={limit}"],
            cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True,
            # Where this runs in the background of a shell, Ctrl-C is ignored by all that it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        end = time.monotonic() + END
        while suite.poll() is None and not happens.exists() and time.monotonic() < end:
            time.sleep(0.02)
        known = {test["nodeid"] for test in read(journal).tests} if happens.exists() else set()
        happened = happens.stat().st_mtime if happens.exists() else 0.0
        if then and happened:
            os.kill(suite.pid, then)
        suite.wait(END)
    return known, happened


def _recovery(found: Run, happened: float) -> float:
    resumed = [_time(test) for one in found.journals if one.header.get("resumes") for test in one.tests]
    if resumed:
        return min(resumed) - happened
    ended = sorted(found.tests, key=_time)
    hit = next((place for place, test in enumerate(ended) if test["outcome"] != "PASS"), None)
    if hit is None:
        return math.nan
    later = [_time(test) for test in ended[hit + 1 :] if test.get("card") == ended[hit].get("card")]
    return (later or [_time(ended[hit])])[0] - happened


def _time(test: Mapping[str, Any]) -> float:
    return milliseconds(test["time"]) / 1000


def _left(folder: Path, mark: str, before: set[str]) -> Iterator[str]:
    end = time.monotonic() + PATIENCE
    while (processes := marked(MARK, mark)) and time.monotonic() < end:
        time.sleep(0.1)
    yield from (f"process {process.pid}: {' '.join(process.cmdline()[:4])}" for process in processes)
    for file in (folder / "leases").iterdir():
        try:
            FileLock(file).acquire(timeout=0).lock.release()
        except Timeout:
            yield f"lease {file.name} is held"
    kept = "pytest-of-"  # the directories of its last three runs, which pytest keeps for whoever looks for a failure
    yield from (f"temporary file {file.name}" for file in (folder / "t").iterdir() if not file.name.startswith(kept))
    yield from (f"shared memory {name}" for name in sorted(shared_memory(before)))


def shared_memory(before: set[str]) -> set[str]:
    """The files of shared memory beside those from before that nobody uses, and that stay there for PATIENCE.

    Others on this machine have theirs, too, and may be about to map or to remove them.
    """
    end, left = time.monotonic() + PATIENCE, set(os.listdir("/dev/shm")) - before
    while left and time.monotonic() < end:
        time.sleep(0.1)
        left &= set(os.listdir("/dev/shm"))
    return _unused(left)


def _unused(names: set[str]) -> set[str]:
    """Those of the files of shared memory that no process maps."""
    maps = ""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            maps += (process / "maps").read_text(errors="replace")
    return {name for name in names if f"/dev/shm/{name}" not in maps}

"""How busy the suite keeps cards that take their time: many workers, real runs on emulated cards with latency."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from meta_tests.projects import FOREIGN, ROOT, write_project
from reports.run import load

TESTS = '''
import pytest
from fixtures.requirement import requirement

@requirement("written/latency", level="extended")
@pytest.mark.single_npu
@pytest.mark.parametrize("number", range({count}))
def test_operators_take_their_time(npu, evidence, number):
    """A slow card adds."""
    import torch
    total = torch.zeros(4, device=npu)
    for _ in range({lengths}[number]):
        total.add_(1)
    evidence.check_equal("sum", float(total.sum()), 4.0 * {lengths}[number])
'''
EARLIER = 40  # the run that tells which tests are long is so many times faster than the one that is measured


@dataclass(frozen=True)
class Busy:
    """How long a run took, in seconds.

    Attributes:
        cards: of the machine, each with a worker.
        tests: that ran.
        longest: of the tests, with set-up and teardown.
        total: of all tests.
        wall: of the run, the start of its workers included.
    """

    cards: int
    tests: int
    longest: float
    total: float
    wall: float

    @property
    def bound(self) -> float:
        """No schedule is shorter: the longest test, or the work of all spread over all cards."""
        return max(self.longest, self.total / self.cards)


def measure(cards: int, folder: Path, work: float, count: int = 128) -> Busy:
    """Runs ``count`` tests of 16 to 64 operators, the longest first, as a run before has told.

    Args:
        cards: of the machine.
        folder: an empty one.
        work: seconds of operators for each card, which makes the latency of an operator.
        count: of the tests.

    Raises:
        AssertionError: a test did not pass.
    """
    number = random.Random(7)
    lengths = tuple(number.randint(16, 64) for _ in range(count))
    latency = work * cards / sum(lengths)
    write_project(folder, TESTS.format(count=count, lengths=lengths))
    _run(cards, folder, latency / EARLIER, "earlier")
    _run(cards, folder, latency, "measured")
    found = load(folder / "runs/measured")
    seconds = [sum(test["seconds"].values()) for test in found.tests]
    assert {test["outcome"] for test in found.tests} == {"PASS"}, f"see {folder / 'output.txt'}"
    return Busy(cards, len(seconds), max(seconds), sum(seconds), found.journals[0].footer["seconds"])


def _run(cards: int, folder: Path, latency: float, name: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "NPU_EMULATOR_CARDS": str(cards),
        "NPU_EMULATOR_LATENCY": f"{round(latency * 1000)}ms",
        "NPU_CONFORMANCE_LEASES": str(folder / "leases"),
    }
    command = [sys.executable, "-m", "emulator", "pytest", "-n", str(cards), f"--run-dir=runs/{name}"]
    with (folder / "output.txt").open("a") as output:
        subprocess.run(command, cwd=folder, env=environment, stdout=output, stderr=output, check=False)

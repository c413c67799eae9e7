"""What may happen to a run in a night: in a test's process, on its card, in one of its ranks, or to the run itself."""

from __future__ import annotations

import signal
from dataclasses import dataclass

# Beside the test to which it happens a run has these, so that something may be lost; they take turns on both cards.
OTHERS = 10
TESTS = '''
import os, pathlib, time
import pytest
from fixtures.requirement import requirement

@requirement("written/before", level="extended")
@pytest.mark.single_npu
@pytest.mark.parametrize("number", range({before}))
def test_before(npu, evidence, number):
    """A card adds."""
    add(npu, evidence)

@requirement("written/victim", level="extended")
@pytest.mark.{marker}
def test_victim({fixtures}, evidence):
    """A card computes, come what may."""
    import torch
    pathlib.Path("happened").write_text(repr(time.time()))
{victim}

@requirement("written/after", level="extended")
@pytest.mark.single_npu
@pytest.mark.parametrize("number", range({after}))
def test_after(npu, evidence, number):
    """A card adds."""
    add(npu, evidence)

def add(npu, evidence):
    import torch
    evidence.check_equal("sum", float((torch.ones(8, device=npu) + 1).sum()), 16.0)
    time.sleep(0.3)
'''
ALL_REDUCE = '''
"""Two ranks add up; ``HAPPENS`` is what befalls rank 1 before it does."""
from dataclasses import dataclass
from fixtures.measured import Measured

@dataclass(frozen=True)
class AllReduce:
    pass

def run(spec, device, dtype=None):
    import os, signal
    import torch
    import torch_npu
    import torch.distributed as dist
    torch.npu.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("hccl")
    if os.environ["RANK"] == "1" and os.environ.get("HAPPENS") == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    total = torch.ones(4, device="npu")
    dist.all_reduce(total)
    return Measured(losses=(total.sum().item(),))
'''
RANKS = """
    from all_reduce import AllReduce
    evidence.check_equal("ranks", len(ranks(AllReduce(), 2, deadline=30)), 2)
"""
ERF = """
    torch.erf(torch.ones(8, device=npu)).sum().item()
    evidence.check_equal("shape", 8, 8)
"""
PATIENT = """
    while pathlib.Path("slow").exists():
        time.sleep(0.05)
    add(npu, evidence)
"""


@dataclass(frozen=True)
class Interruption:
    """Something that happens while a test runs.

    Attributes:
        id: of the row.
        sentence: what happens, as the table says it.
        outcomes: of the tests that do not pass; all others must.
        victim: what the test does to which it happens.
        faults: of the cards (emulator/README.md).
        environment: of the run, as "NAME=value".
        ranks: whether the test starts two ranks.
        from_the_start: it is so when the run begins, not when that test does.
        to_the_run: a signal that the controller gets, after which the run is resumed; None where it ends by itself.
    """

    id: str
    sentence: str
    outcomes: tuple[str, ...]
    victim: str = ERF
    faults: str = ""
    environment: tuple[str, ...] = ()
    ranks: bool = False
    from_the_start: bool = False
    to_the_run: signal.Signals | None = None

    @property
    def tests(self) -> str:
        """The test module in which it happens."""
        return TESTS.format(
            before=OTHERS // 2,
            after=OTHERS - OTHERS // 2,
            marker="multi_npu" if self.ranks else "single_npu",
            fixtures="ranks" if self.ranks else "npu",
            victim=self.victim,
        )


INTERRUPTIONS = (
    Interruption("segfault", "segmentation fault in a test", ("CRASH",), "    import ctypes; ctypes.string_at(0)"),
    Interruption("exit", "`os._exit` in a test", ("CRASH",), "    os._exit(3)"),
    Interruption("worker-killed", "SIGKILL of a worker", ("CRASH",), "    os.kill(os.getpid(), 9)"),
    Interruption("operator-crashes", "an operator aborts its process", ("CRASH",), faults="aclnnErf:crash"),
    Interruption("operator-hangs", "an operator never ends", ("TIMEOUT",), faults="aclnnErf:hang"),
    Interruption(
        "native-hang", "native code hangs with the interpreter's lock held", ("TIMEOUT",),
        "    import ctypes; ctypes.PyDLL(None).sleep(600)",
    ),
    Interruption(
        "operator-fails", "an operator fails, and leaves the process unable to compute", ("FAIL",),
        faults="aclnnErf:fail=507015",
    ),
    Interruption(
        "initialisation-hangs", "a card never comes up", ("DEVICE_LOST",), faults="aclrtSetDevice:hang@card=0",
        from_the_start=True,
    ),
    Interruption(
        "card-lies", "a card computes nothing right", ("DEVICE_LOST",),
        faults="aclnnMm:zero@card=0;aclnnMatmul:zero@card=0", from_the_start=True,
    ),
    Interruption(
        "out-of-memory", "a test takes all memory of its card", ("FAIL",),
        "    held = [torch.empty(1 << 24, dtype=torch.uint8, device=npu) for _ in range(1000)]",
        environment=("NPU_EMULATOR_MEMORY=512MiB",),
    ),
    Interruption(
        "collective-hangs", "a rank never comes out of a collective", ("TIMEOUT",), RANKS, ranks=True,
        faults="HcclAllReduce:hang@rank=1",
    ),
    Interruption(
        "rank-killed", "SIGKILL of a rank", ("CRASH",), RANKS, ranks=True, environment=("HAPPENS=kill",)
    ),
    Interruption(
        "controller-killed", "SIGKILL of the whole run's controller; resumed", (), PATIENT,
        to_the_run=signal.SIGKILL,
    ),
    Interruption("interrupted", "Ctrl-C; resumed", (), PATIENT, to_the_run=signal.SIGINT),
)  # fmt: skip

"""The ``ranks`` fixture on trial: a rank that lies, raises, dies, hangs, skips or is misplaced is found out."""

import re

import pytest

from fixtures import processes
from fixtures.errors import DeadlineExceeded, RankCrashed, RankFailed
from fixtures.measured import Measured
from fixtures.ranks import Rank, chosen, verdict

# A workload that does nothing on a card but misbehave on one rank; the card is stated by a stand-in for torch_npu.
WORKLOAD = """
import ctypes, os, signal, sys, time, types
from dataclasses import dataclass
from pathlib import Path
from fixtures import activity
from fixtures.measured import Measured

@dataclass(frozen=True)
class Misbehaving:
    how: str

def run(spec, device, dtype=None):
    rank = int(os.environ["RANK"])
    npu = types.SimpleNamespace(
        is_initialized=lambda: True,
        current_device=lambda: 0 if spec.how == "shares a card" else rank,
        device_count=lambda: 2,
        memory_stats=lambda card: {"allocation.all.allocated": 1, "allocated_bytes.all.peak": 512},
    )
    backend = types.SimpleNamespace(name=lambda: "gloo")
    alive = types.SimpleNamespace(is_initialized=lambda: spec.how == "gloo", is_available=lambda: True)
    devices = [types.SimpleNamespace(type="npu")]
    world = types.SimpleNamespace(_get_backend=lambda device: backend, _device_types=devices)
    alive.group = types.SimpleNamespace(WORLD=world)
    alive.destroy_process_group = lambda: None
    sys.modules["torch"] = types.SimpleNamespace(npu=npu, distributed=alive, device=str)
    sys.modules["torch_npu"] = types.ModuleType("torch_npu")
    waits, hangs = (Path(os.environ["MISBEHAVIOUR"], name) for name in ("waits", "hangs"))
    if spec.how in ("raises", "dies", "is killed", "leaves"):
        if rank == 0:
            activity.note()
            waits.touch()
            time.sleep(600)  # as in a collective that the other never joins
        while not waits.exists():
            time.sleep(0.01)
    if rank == 1:
        if spec.how == "raises":
            raise ValueError("no gradient")
        if spec.how == "dies":
            ctypes.string_at(0)
        if spec.how == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if spec.how == "leaves":
            os._exit(3)
        if spec.how == "hangs":
            hangs.touch()
            time.sleep(600)
        if spec.how == "skips":
            import pytest
            pytest.skip("UNSUPPORTED: no bf16 here")
    if spec.how == "all skip":
        import pytest
        pytest.skip("UNSUPPORTED: no bf16 on this chip")
    weights = {"a": 1.0, "b": float(rank) if spec.how == "lies" else 2.0}
    return Measured(losses=(1.0,), agreed={"weights": weights})
"""
TEST = """
from misbehaving import Misbehaving

@requirement("demo/ranks")
def test_ranks(ranks, evidence):
    '''All ranks agree.'''
    measured = ranks(Misbehaving("{how}"), 2)
    evidence.check_equal("results", len(measured), 2)
"""


@pytest.fixture
def misbehave(suite, a_loadable_cann, monkeypatch, tmp_path):
    """misbehave(how, first="") -> what became of a test whose rank 1 does that, on two made-up cards; ``first``: what
    its module does before.
    """

    def run(how: str, first: str = ""):
        env = {
            "NPU_EMULATOR_CARDS": "2",
            "MISBEHAVIOUR": str(tmp_path),
            "LD_LIBRARY_PATH": str(tmp_path),
            "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
        }
        return suite(first + TEST.format(how=how), "-n", "0", env=env, modules={"misbehaving": WORKLOAD})

    return run


CASES = {
    "behaves": ("PASS", ""),
    "raises": ("FAIL", r"rank 1 raised first: ValueError: no gradient"),
    "dies": ("CRASH", r"rank 1 died first: killed by SIGSEGV"),
    "is killed": ("CRASH", r"rank 1 died first: killed by SIGKILL"),
    "leaves": ("CRASH", r"rank 1 died first: left Python with exit code 3"),
    "skips": ("FAIL", r"rank 1 skipped: UNSUPPORTED: no bf16 here"),
    "all skip": ("UNSUPPORTED", "no bf16 on this chip"),
    "lies": ("FAIL", r"rank 1 disagrees with rank 0: weights: b: 1.0"),
    "shares a card": ("FAIL", r"expected: a card for each rank; measured: cards \['0', '0'\]"),
    "gloo": ("FAIL", r"expected: backend hccl; measured: backend gloo on rank 0"),
}


@pytest.mark.parametrize("how", CASES)
def test_a_rank_that(misbehave, how):
    """Each misbehaviour of one rank has its outcome, and the message says which rank did what."""
    outcome, reason = CASES[how]

    ran = misbehave(how)

    record = ran.tests["test_ranks"]
    assert record["outcome"] == outcome, ran.stdout + ran.stderr
    assert re.search(reason, record["reason"])
    assert len(record["values"]["ranks"]) == 2


def test_a_rank_that_hangs(misbehave, tmp_path):
    """At the deadline all processes are killed, the outcome is TIMEOUT, and the rank's stacks are shown."""
    strike = "import os, pathlib\nfrom meta_tests.deadlines import strike_when\n"
    strike += "strike_when(pathlib.Path(os.environ['MISBEHAVIOUR'], 'hangs').exists)\n"

    ran = misbehave("hangs", strike)

    record = ran.tests["test_ranks"]
    assert record["outcome"] == "TIMEOUT", ran.stdout
    assert "rank 1 hung first: had not ended at the deadline" in record["reason"]
    assert 'misbehaving.py", line' in record["reason"]
    assert processes.marked("MISBEHAVIOUR", str(tmp_path)) == []


def test_the_traceback_of_the_rank_is_shown(misbehave):
    """The message has the traceback of the rank that failed first, and how the others ended."""
    reason = misbehave("raises").tests["test_ranks"]["reason"]

    assert 'raise ValueError("no gradient")' in reason
    assert "rank 0  card  ?  stopped       ended by the launcher" in reason


def test_the_work_of_a_rank_that_the_launcher_ends(misbehave):
    """What such a rank had noted of its work on the card counts: it has no result that would say so."""
    record = misbehave("is killed").tests["test_ranks"]

    assert [rank.get("facts") for rank in record["values"]["ranks"]] == [{"allocations": 2, "peak_bytes": 512}, None]
    assert record["npu"] == {"allocations": 2, "peak_bytes": 512}  # one on each card that it sees


def rank(number: int, end: str = "finished", time: float = 0.0, **facts) -> Rank:
    """A rank as it is collected."""
    where = {"card": str(number), "device": number, "backend": "hccl", "world_size": 2, **facts}
    return Rank(number, end, "why" if end != "finished" else "", time=time, facts=where, measured=Measured((1.0,)))


def test_who_failed_first():
    """Of several failed ranks the first in time is named, a hang only where nobody died or raised."""
    problem = verdict([rank(0, "hung", 3.0), rank(1, "raised", 2.0), rank(2, "died", 1.0)])

    assert isinstance(problem, RankCrashed)
    assert str(problem).startswith("rank 2 died first")
    assert isinstance(verdict([rank(0, "hung", 3.0), rank(1, "stopped", 1.0)]), DeadlineExceeded)
    assert isinstance(verdict([rank(0, "raised", 1.0), rank(1, "died", 1.1)]), RankCrashed), "seen late by its watcher"
    assert isinstance(verdict([rank(0, "raised", 1.0), rank(1, "died", 9.0)]), RankFailed), "died of the other"


def test_a_rank_that_was_never_started():
    """A missing rank is a failure, not one rank less."""
    assert isinstance(verdict([rank(0), rank(1, "never started")]), RankFailed)


def test_all_well():
    """Ranks that finished, each on its own card, alike: nothing is wrong."""
    assert verdict([rank(0), rank(1)]) is None


@pytest.mark.parametrize(
    ("held", "world_size", "expected"),
    [((0, 1), 2, (0, 1)), ((0, 1, 2, 3), 2, (1, 3)), ((4, 5, 6, 7), 1, (7,)), ((2, 5, 6), 2, (5, 6)), ((3,), 1, (3,))],
)
def test_cards_of_a_subset_are_not_the_first_ones(held, world_size, expected):
    """A launcher that is told fewer cards than it sees is told the last and, where there is room, no neighbours."""
    assert chosen(held, world_size) == expected

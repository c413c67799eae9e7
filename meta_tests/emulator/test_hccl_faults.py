"""Faults of collectives: what each action makes of the result."""

import json
import signal
import textwrap
from pathlib import Path

import pytest

NAN = "nan"
REMOTE = 21  # HCCL_E_REMOTE

# What each rank of three passes to the collective (hccl_ranks.Rank), by the rank's number r.
CALLS = {
    "HcclAllReduce": "rank.all_reduce([1 + r, 10 * r])",
    "HcclReduce": "rank.reduce([1 + r, 10 * r])",
    "HcclBroadcast": "rank.broadcast([1 + r, 10 * r])",
    "HcclAllGather": "rank.all_gather([1 + r])",
    "HcclReduceScatter": "rank.reduce_scatter([1 + r, 10 * r, 100 * r])",
    "HcclScatter": "rank.scatter([100 * r + 1, 100 * r + 2, 100 * r + 3])",
    "HcclAlltoAll": "rank.all_to_all([10 * r, 10 * r + 1, 10 * r + 2])",
    "HcclAlltoAllV": "rank.all_to_all_v([10 * r, 10 * r + 1, 10 * r + 2], [1, 1, 1], [1, 1, 1])",
}

RIGHT = {
    "HcclAllReduce": [[6, 30], [6, 30], [6, 30]],
    "HcclReduce": [[6, 30], [2, 10], [3, 20]],
    "HcclBroadcast": [[1, 0], [1, 0], [1, 0]],
    "HcclAllGather": [[1, 2, 3], [1, 2, 3], [1, 2, 3]],
    "HcclReduceScatter": [[6], [30], [300]],
    "HcclScatter": [[1], [2], [3]],
    "HcclAlltoAll": [[0, 10, 20], [1, 11, 21], [2, 12, 22]],
    "HcclAlltoAllV": [[0, 10, 20], [1, 11, 21], [2, 12, 22]],
}

# Line and results; outputs that the collective does not write hold 9, or the input where it works in place.
WRONG = [
    ("HcclAllReduce:drop-rank=1", [[4, 20], [4, 20], [4, 20]]),
    ("HcclAllReduce:drop-rank=1@rank=2", [[6, 30], [6, 30], [4, 20]]),
    ("HcclAllReduce:reduce=max", [[3, 20], [3, 20], [3, 20]]),
    ("HcclAllReduce:reduce=prod@rank=0", [[6, 0], [6, 30], [6, 30]]),
    ("HcclAllReduce:null", [[1, 0], [2, 10], [3, 20]]),
    ("HcclAllReduce:null@rank=1", [[6, 30], [2, 10], [6, 30]]),
    ("HcclAllReduce:tail=1", [[6, 0], [6, 10], [6, 20]]),
    ("HcclAllReduce:scale=0.5@rank=0", [[3, 15], [6, 30], [6, 30]]),
    ("HcclAllReduce:bias=1,scale=2@rank=1", [[6, 30], [14, 62], [6, 30]]),
    ("HcclAllReduce:zero@rank=2", [[6, 30], [6, 30], [0, 0]]),
    ("HcclAllReduce:nan=1@rank=2", [[6, 30], [6, 30], [6, NAN]]),
    ("HcclReduce:drop-rank=2", [[3, 10], [2, 10], [3, 20]]),
    ("HcclReduce:root=2", [[1, 0], [2, 10], [6, 30]]),
    ("HcclReduce:root=2@rank=2", [[6, 30], [2, 10], [6, 30]]),
    ("HcclBroadcast:root=2", [[1, 0], [3, 20], [3, 20]]),
    ("HcclBroadcast:root=2@rank=1", [[1, 0], [3, 20], [1, 0]]),
    ("HcclBroadcast:swap", [[1, 0], [2, 10], [2, 10]]),
    ("HcclBroadcast:drop-rank=0", [[1, 0], [0, 0], [0, 0]]),
    ("HcclBroadcast:null@rank=2", [[1, 0], [1, 0], [3, 20]]),
    ("HcclAllGather:drop-rank=1", [[1, 0, 3], [1, 0, 3], [1, 0, 3]]),
    ("HcclAllGather:swap", [[2, 1, 3], [2, 1, 3], [2, 1, 3]]),
    ("HcclAllGather:tail=2", [[1, 9, 9], [1, 9, 9], [1, 9, 9]]),
    ("HcclAllGather:nan=2@rank=0", [[1, 2, NAN], [1, 2, 3], [1, 2, 3]]),
    ("HcclReduceScatter:drop-rank=2", [[3], [10], [100]]),
    ("HcclReduceScatter:swap", [[30], [6], [300]]),
    ("HcclReduceScatter:reduce=min", [[1], [0], [0]]),
    ("HcclReduceScatter:null@rank=0", [[9], [30], [300]]),
    ("HcclScatter:root=1", [[101], [102], [103]]),
    ("HcclScatter:swap", [[2], [1], [3]]),
    ("HcclScatter:drop-rank=0", [[0], [0], [0]]),
    ("HcclAlltoAll:drop-rank=0", [[0, 10, 20], [0, 11, 21], [0, 12, 22]]),
    ("HcclAlltoAll:swap@rank=2", [[0, 10, 20], [1, 11, 21], [12, 2, 22]]),
    ("HcclAlltoAllV:null@rank=1", [[0, 10, 20], [9, 9, 9], [2, 12, 22]]),
    ("HcclAlltoAllV:scale=2@rank=1", [[0, 10, 20], [2, 22, 42], [2, 12, 22]]),
]

IDLE = [  # faults that find nothing to change
    "HcclAllReduce:swap",
    "HcclAllReduce:root=1",
    "HcclAllReduce:reduce=sum",
    "HcclAllReduce:drop-rank=7",
    "HcclAllReduce:stale@call=1",
    "HcclBroadcast:reduce=max",
    "HcclBroadcast:root=0",
    "HcclAllGather:reduce=max",
    "HcclAllGather:root=1",
    "HcclBarrier:swap",
]


@pytest.fixture
def ranks(emulated):
    """A function that runs body(rank) of a program in three ranks and returns what became of each, and the Run."""

    def run(program: str, **settings):
        """Runs the program as hccl_ranks.run does; settings as with `emulated`."""
        code = "import json, os\nfrom hccl_ranks import *\n" + textwrap.dedent(program)
        folder = {"PYTHONPATH": str(Path(__file__).parent)}
        settings = {"cards": 3, **settings}
        done = emulated(code + "\nprint(json.dumps(run(body, 3)))\n", environment=folder, **settings).succeeded()
        return json.loads(done.stdout.splitlines()[-1]), done

    return run


def program_of(calls: list[str]) -> str:
    """A program in which every rank makes these calls of CALLS and returns their results, NaN as text."""
    return f"""
        def body(rank):
            r = rank.number
            results = [{", ".join(CALLS[call] for call in calls)}]
            return [["nan" if value != value else value for value in result] for result in results]
        """


def results_by_call(outcomes: list[dict]) -> list[list]:
    """For each call the results of all ranks."""
    return [list(results) for results in zip(*(outcome["result"] for outcome in outcomes), strict=True)]


def test_collectives_are_right_without_a_fault(ranks):
    """Without a fault every collective gives what it is defined to give."""
    outcomes, _ = ranks(program_of(list(CALLS)))

    assert dict(zip(CALLS, results_by_call(outcomes), strict=True)) == RIGHT


def test_each_action_makes_the_result_wrong_as_it_says(ranks):
    """Each action changes the result of its collective, on the ranks that it is for, as emulator/README.md says."""
    calls = [line.partition(":")[0] for line, _ in WRONG]
    # Each fault has a call of its own: the first call of a collective for its first fault, and so on.
    faults = [
        line + (",call=" if "@" in line else "@call=") + str(calls[: i + 1].count(calls[i]))
        for i, (line, _) in enumerate(WRONG)
    ]

    outcomes, done = ranks(program_of(calls), faults=";".join(faults))

    lines = [line for line, _ in WRONG]
    assert dict(zip(lines, results_by_call(outcomes), strict=True)) == dict(WRONG)
    assert [fault for fault in faults if done.fired[fault] == 0] == []


def test_faults_that_change_nothing_do_not_count_as_fired(ranks):
    """A fault whose actions mean nothing for a collective, or whose rank is not there, leaves it alone and says so."""
    outcomes, done = ranks(program_of(list(CALLS)), faults=";".join(IDLE))

    assert dict(zip(CALLS, results_by_call(outcomes), strict=True)) == RIGHT
    assert done.fired == dict.fromkeys(IDLE, 0)


def test_a_stale_result_is_that_of_the_last_call_of_the_same_size(ranks):
    """With `stale` a collective gives again what the call before gave, as far as that had the same size and type."""
    program = """
        def body(rank):
            return [rank.all_reduce(values) for values in ([1], [2, 2], [3], [4, 4])]
        """

    outcomes, done = ranks(program, faults="HcclAllReduce:stale@call=3,rank=1")

    assert [each["result"] for each in outcomes] == [
        [[3], [6, 6], [9], [12, 12]],
        [[3], [6, 6], [3], [12, 12]],
        [[3], [6, 6], [9], [12, 12]],
    ]
    assert done.fired == {"HcclAllReduce:stale@call=3,rank=1": 1}


@pytest.mark.parametrize(
    ("fault", "received"),
    [
        ("HcclSend:null@call=2", [1, 9, 3]),
        ("HcclRecv:null@call=2", [1, 9, 3]),
        ("HcclSend:drop-rank=0@call=2", [1, 0, 3]),
        ("HcclRecv:drop-rank=0@call=2", [1, 0, 3]),
        ("HcclRecv:stale@call=3", [1, 2, 2]),
        ("HcclRecv:scale=10@call=1", [10, 2, 3]),
        ("Hccl*:zero", [0, 0, 0]),
    ],
)
def test_faults_of_messages(ranks, fault, received):
    """A message that a fault withholds, blanks or changes arrives as the fault says."""
    program = """
        def body(rank):
            if rank.number == 0:
                return [rank.send([value], 2) for value in (1, 2, 3)]
            return [rank.receive(1, 0)[0] for _ in range(3)] if rank.number == 2 else None
        """

    outcomes, done = ranks(program, faults=fault)

    assert outcomes[2]["result"] == received
    assert done.fired[fault] == (3 if fault == "Hccl*:zero" else 1)


def test_a_barrier_that_is_not_executed_does_not_wait(ranks):
    """With `null` a rank passes a barrier without waiting for the others, which need not wait for it in vain."""
    program = """
        passed, tell = os.pipe()

        def body(rank):
            if rank.number == 1:
                os.read(passed, 1)
            rank.barrier()
            os.write(tell, b"x")
            return rank.all_reduce([1])
        """

    outcomes, done = ranks(program, faults="HcclBarrier:null@rank=0", hccl_timeout=20)

    assert [each["result"] for each in outcomes] == [[3], [3], [3]]
    assert done.fired == {"HcclBarrier:null@rank=0": 1}


def test_a_crash_in_a_collective_is_an_error_on_the_other_ranks(ranks):
    """With `crash` a rank ends by the signal within its collective, and the others get an error that names it."""
    outcomes, done = ranks(
        "def body(rank):\n    rank.all_reduce([1])\n    rank.all_reduce([1])",
        faults="HcclAllReduce:crash=ABRT@rank=2,call=2",
    )

    assert outcomes[2]["signal"] == signal.SIGABRT
    assert [each["code"] for each in outcomes[:2]] == [REMOTE, REMOTE]
    assert "rank 2 (process " in outcomes[0]["text"]
    assert done.fired == {"HcclAllReduce:crash=ABRT@rank=2,call=2": 1}

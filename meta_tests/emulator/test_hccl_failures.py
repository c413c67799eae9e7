"""What becomes of a communicator when its ranks die, hang, leave or do not agree: libhccl.so's C interface."""

import json
import textwrap
from pathlib import Path

import pytest

# Codes of HcclResult.
PARAMETER, NOT_SUPPORTED, TIMEOUT, REMOTE = 1, 5, 9, 21


@pytest.fixture
def ranks(emulated):
    """A function that runs `body(rank)` of a program in several ranks and returns what became of each."""

    def run(program: str, size: int = 2, join: bool = True, **settings) -> list[dict]:
        """Runs the program, which defines body(rank), as hccl_ranks.run does; other settings as with `emulated`."""
        code = "import json, os, signal, threading, time\nfrom hccl_ranks import *\n" + textwrap.dedent(program)
        code += f"\nprint(json.dumps(run(body, {size}, {join})))\n"
        folder = {"PYTHONPATH": str(Path(__file__).parent)}
        done = emulated(code, environment=folder, **{"cards": max(2, size), **settings}).succeeded()
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_a_dead_peer_is_an_error_at_once(ranks):
    """A rank that waits for one that was killed gets an error that names it, long before the timeout of 600 s."""
    survivor, other, killed = ranks(
        """
        def body(rank):
            rank.all_reduce([1])
            if rank.number == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            rank.all_reduce([1])
        """,
        size=3,
    )

    assert killed["signal"] == 9
    assert survivor["code"] == other["code"] == REMOTE
    assert "rank 2 (process " in survivor["text"]
    assert "whose process has ended" in survivor["text"]
    assert "HcclAllReduce" in survivor["text"]


def test_a_peer_that_dies_amid_a_large_collective_is_an_error(ranks):
    """A rank killed between two steps of a collective or of a message is an error on the rank that waits for it."""
    outcomes = ranks(
        """
        def body(rank):
            if rank.number == 1:
                threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGKILL)).start()
            while True:
                rank.all_reduce([1] * 2_000_000)
                rank.send([1] * 200_000, 1) if rank.number == 0 else rank.receive(200_000, 0)
        """
    )

    assert outcomes[0]["code"] == REMOTE
    assert outcomes[1]["signal"] == 9


def test_a_root_that_dies_before_the_others_join_is_an_error(ranks):
    """A rank that joins with the root info of a process that has ended gets an error that says so."""
    outcomes = ranks(
        """
        def body(rank):
            if rank.number == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            root = int.from_bytes(rank.root_info[16:20], "little")
            while lives(root):
                time.sleep(0.01)
            rank.join()

        def lives(process):
            try:
                return " Z " not in open(f"/proc/{process}/stat").read()
            except OSError:
                return False
        """,
        join=False,
    )

    assert outcomes[1]["code"] == REMOTE
    assert "which made the root info" in outcomes[1]["text"]


def test_a_peer_that_never_joins_is_an_error_after_the_timeout(ranks):
    """A rank whose peer does not come to the communicator's creation gets an error after NPU_EMULATOR_HCCL_TIMEOUT."""
    waited, _ = ranks("def body(rank):\n    rank.number == 0 and rank.join()", join=False, hccl_timeout=0.5)

    assert waited["code"] == TIMEOUT
    assert "rank 1, which has never joined" in waited["text"]
    assert "NPU_EMULATOR_HCCL_TIMEOUT" in waited["text"]


def test_a_member_that_dies_before_it_joins_a_part_is_an_error(ranks):
    """A rank that makes a communicator of some ranks gets an error at once where one of them has ended before."""
    outcomes = ranks(
        """
        def body(rank):
            if rank.number == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            rank.part([0, 2], 7) if rank.number == 0 else rank.part([2, 1], 8)
        """,
        size=3,
    )

    assert [each["code"] for each in outcomes[:2]] == [REMOTE, REMOTE]
    assert "rank 1, which has never joined, whose process has ended" in outcomes[0]["text"]
    assert "rank 2 (process " in outcomes[1]["text"]


@pytest.mark.parametrize("asynchronous", [0, 1])
def test_a_hung_peer_is_an_error_after_the_timeout(ranks, asynchronous):
    """A rank that waits too long gets an error with the late rank and its last call; the late one learns of it."""
    waited, late = ranks(
        """
        done, tell = os.pipe()

        def body(rank):
            rank.barrier()
            if rank.number == 1:
                os.read(done, 1)
            try:
                rank.all_reduce([1])
            finally:
                os.write(tell, b"x")
        """,
        hccl_timeout=0.5,
        asynchronous=asynchronous,
    )

    assert waited["code"] == late["code"] == TIMEOUT
    assert "rank 0 of 2: has waited 0.5 s" in waited["text"]
    assert "last seen in HcclBarrier, call 1" in waited["text"]
    assert "the communicator is lost since this failure" in late["text"]


@pytest.mark.parametrize(("call", "name"), [("receive(1, peer)", "HcclRecv"), ("send([1], peer)", "HcclSend")])
def test_messages_without_a_counterpart_are_an_error_after_the_timeout(ranks, call, name):
    """Two ranks that both receive, or both send before they receive, wait for each other until the timeout."""
    outcomes = ranks(f"def body(rank):\n    peer = 1 - rank.number\n    rank.{call}", hccl_timeout=0.5)

    assert [each["code"] for each in outcomes] == [TIMEOUT, TIMEOUT]
    assert name in outcomes[0]["text"]


def test_a_peer_that_destroyed_its_communicator_is_an_error(ranks):
    """A rank that waits for one that has destroyed its communicator gets an error."""
    waited, _ = ranks("def body(rank):\n    rank.destroy() if rank.number == 1 else rank.all_reduce([1])")

    assert waited["code"] == REMOTE
    assert "which has left" in waited["text"]


DISAGREEMENTS = [  # what rank 0 and rank 1 call, and what both are told
    (
        "all_reduce([1, 2])",
        "all_reduce([1])",
        "rank 0 has called HcclAllReduce(fp32, sum, 2 elements), "
        "rank 1 has called HcclAllReduce(fp32, sum, 1 elements)",
    ),
    (
        "all_reduce([1])",
        "all_reduce([1], 'fp16')",
        "HcclAllReduce(fp32, sum, 1 elements), rank 1 has called HcclAllReduce(fp16, sum, 1 elements)",
    ),
    ("all_reduce([1])", "all_reduce([1], 'fp32', MAX)", "rank 1 has called HcclAllReduce(fp32, max, 1 elements)"),
    (
        "broadcast([1])",
        "broadcast([1], root=1)",
        "HcclBroadcast(fp32, 1 elements, root 0), rank 1 has called HcclBroadcast(fp32, 1 elements, root 1)",
    ),
    (
        "all_reduce([])",
        "all_gather([])",
        "HcclAllReduce(fp32, sum, 0 elements), rank 1 has called HcclAllGather(fp32, 0 elements)",
    ),
    ("barrier()", "broadcast([1])", "HcclBarrier(), rank 1 has called HcclBroadcast(fp32, 1 elements, root 0)"),
    (
        "all_to_all_v([1, 2], [1, 1], [1, 1])",
        "all_to_all_v([1, 2], [1, 1], [2, 1])",
        "rank 0 sends 1 elements to rank 1, which expects 2",
    ),
    (
        "send([1, 2], 1)",
        "receive(3, 0)",
        "rank 0 sends 2 elements of fp32 to rank 1, which expects 3 elements of fp32",
    ),
    ("send([1], 1, 'int64')", "receive(1, 0)", "rank 0 sends 1 elements of int64 to rank 1, which expects 1 elements"),
]


def test_ranks_that_do_not_agree_are_an_error_on_all(ranks):
    """Where two ranks call different collectives, or with other sizes, types or roots, both are told both sides."""
    pairs = [pair[:2] for pair in DISAGREEMENTS]

    (everything,) = ranks(
        f"""
        def pair(rank):
            rank.join()
            eval("rank." + calls[rank.number])

        def body(first):
            global calls
            outcomes = []
            for calls in {pairs}:
                outcomes.append(run(pair, 2, join=False))
            return outcomes
        """,
        size=1,
        join=False,
    )

    for (_, _, complaint), outcomes in zip(DISAGREEMENTS, everything["result"], strict=True):
        assert [each["code"] for each in outcomes] == [PARAMETER, PARAMETER]
        for outcome in outcomes:
            assert "the ranks do not agree: " in outcome["text"]
            assert complaint in outcome["text"]


def test_a_failure_of_one_rank_reaches_the_others(ranks):
    """When a fault makes a collective fail on one rank, the others get an error that names that rank and the fault."""
    other, failed = ranks("def body(rank):\n    rank.all_reduce([1])", faults="HcclAllReduce:fail=17@rank=1")

    assert failed["code"] == 17
    assert other["code"] == REMOTE
    assert "HcclAllReduce on rank 1" in other["text"]
    assert "HcclAllReduce:fail=17@rank=1" in other["text"]


@pytest.mark.parametrize(
    ("rank", "size", "complaint"),
    [
        ("0", "2", "two processes say that they are rank 0"),
        ("rank.number", "2 + rank.number", "the ranks do not agree on their number"),
        ("2", "2", "rank 2 of 2 is not possible"),
        ("0", "65", "rank 0 of 65 is not possible; the emulator has 1 to 64 ranks"),
    ],
)
def test_impossible_ranks_are_refused(ranks, rank, size, complaint):
    """A rank number that is taken or too large, or another number of ranks than the others', is refused."""
    outcomes = ranks(
        f"""
        def body(rank):
            rank.number, rank.size = {rank}, {size}
            rank.join()
        """,
        join=False,
        hccl_timeout=1,
    )

    refused = [each for each in outcomes if each.get("code") == PARAMETER]
    assert any(complaint in each["text"] for each in refused)


def test_bytes_that_are_no_root_info_are_refused(ranks):
    """A root info that HcclGetRootInfo has not made is refused."""
    (outcome,) = ranks(
        "def body(rank):\n    rank.root_info = bytes(ROOT_INFO_BYTES)\n    rank.join()", size=1, join=False
    )

    assert outcome["code"] == PARAMETER
    assert "the root info is not one that HcclGetRootInfo" in outcome["text"]


@pytest.mark.parametrize(
    ("soc", "refused"),
    [
        ("Ascend910B3", {"int16 by prod", "bf16 by prod"}),
        ("Ascend910_9391", {"int16 by prod", "bf16 by prod"}),
        ("Ascend910A", {f"{dtype} by {op}" for dtype in ("int16", "bf16") for op in ("sum", "prod", "max", "min")}),
        (
            "Ascend310P3",
            {f"{dtype} by {op}" for dtype in ("int64", "bf16") for op in ("sum", "prod", "max", "min")}
            | {"int16 by prod", "int16 by max", "int16 by min"},
        ),
    ],
)
def test_reductions_that_the_chip_lacks_are_refused(ranks, soc, refused):
    """What HCCL's reference does not list for a chip is refused with the type, the reduction and the chip's name."""
    (outcome,) = ranks(
        """
        def body(rank):
            texts = []
            for dtype in DTYPES:
                for reduction in SUM, PROD, MAX, MIN:
                    try:
                        assert rank.all_reduce([1], dtype, reduction) == [1]
                    except HcclError as error:
                        texts.append([error.code, str(error)])
            return texts
        """,
        size=1,
        soc=soc,
    )

    for dtype in "uint8", "uint64", "fp64":
        refused = refused | {f"{dtype} by {op}" for op in ("sum", "prod", "max", "min")}
    expected = [[NOT_SUPPORTED, f"HcclAllReduce: HCCL does not reduce {what} on {soc}"] for what in refused]
    assert sorted(outcome["result"]) == sorted(expected)


def test_the_shared_memory_has_no_name(ranks):
    """Ranks share a file that is in no folder, so that nothing can be left in /dev/shm however they end."""
    outcomes = ranks(
        """
        def body(rank):
            rank.all_reduce([1])
            return [line.split(maxsplit=5)[-1].strip() for line in open("/proc/self/maps") if "rw-s" in line]
        """
    )

    for outcome in outcomes:
        assert outcome["result"] == ["/memfd:npu-emulator-hccl (deleted)"]


def test_a_forked_child_does_not_leave_in_its_parents_name(ranks):
    """A rank stays in its communicator when a child that was forked from it destroys its copy and ends."""
    outcomes = ranks(
        """
        def body(rank):
            if os.fork() == 0:
                rank.destroy()
                os._exit(0)
            os.wait()
            return rank.all_reduce([1])
        """
    )

    assert [each["result"] for each in outcomes] == [[2], [2]]


def test_a_destroyed_communicator_is_refused(ranks):
    """A call on a communicator that was destroyed is an error, not a crash."""
    outcomes = ranks("def body(rank):\n    rank.barrier()\n    rank.destroy()\n    rank.barrier()")

    assert [each["code"] for each in outcomes] == [PARAMETER, PARAMETER]
    assert "there is no such communicator" in outcomes[0]["text"]


def test_several_communicators_work_at_once(ranks):
    """Parts of a communicator, created by some of its ranks, work beside it and end without it."""
    outcomes = ranks(
        """
        def body(rank):
            half = rank.part([0, 2] if rank.number in (0, 2) else [3, 1], 7)
            all_but_one = rank.part([1, 2, 3], 8) if rank.number else None
            sums = [half.all_reduce([rank.number]), rank.all_reduce([1])]
            sums.append(half.all_gather([rank.number]))
            sums.append(all_but_one.broadcast([rank.number], root=1) if all_but_one else None)
            half.destroy()
            return [*sums, rank.all_reduce([rank.number])]
        """,
        size=4,
    )

    assert [each["result"] for each in outcomes] == [
        [[2], [4], [0, 2], None, [6]],
        [[4], [4], [3, 1], [2], [6]],
        [[2], [4], [0, 2], [2], [6]],
        [[4], [4], [3, 1], [2], [6]],
    ]


@pytest.mark.parametrize("asynchronous", [0, 1])
def test_ranks_may_be_threads_of_one_process(ranks, asynchronous):
    """Several cards of one process, each used by a thread of its own, communicate with each other."""
    (outcome,) = ranks(
        """
        def body(first):
            sums = [None, None]

            def play(number):
                rank = Rank(number, 2, first.root_info)
                rank.join()
                for _ in range(20):
                    rank.barrier()
                sums[number] = rank.all_reduce([number + 1])

            threads = [threading.Thread(target=play, args=(number,)) for number in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return sums
        """,
        size=1,
        join=False,
        asynchronous=asynchronous,
    )

    assert outcome["result"] == [[3], [3]]


def test_sixteen_ranks_agree(ranks):
    """Sixteen ranks get the same bits of a sum of fp16 numbers that depends on the order of its terms."""
    outcomes = ranks(
        "def body(rank):\n    return rank.all_reduce([1000.0 + rank.number, 0.1 * rank.number], 'fp16')", size=16
    )

    assert len({str(each["result"]) for each in outcomes}) == 1
    assert outcomes[0]["result"][0] == pytest.approx(16120, rel=1e-2)


def test_saturation_clamps_sums_and_raises_the_overflow_status_on_every_rank(ranks):
    """In saturation mode a sum of fp16 numbers stops at 65504, and every rank's float status tells of it."""
    outcomes = ranks(
        """
        def body(rank):
            check(acl.aclrtSetDeviceSatMode(0))
            total = rank.all_reduce([60000.0, -60000.0, 1.0], "fp16")
            status = DeviceArray([0] * 16, "int32")
            check(acl.aclrtGetOverflowStatus(status.pointer, c_uint64(64), None))
            return [total, any(status.values())]
        """
    )

    assert [each["result"] for each in outcomes] == [[[65504, -65504, 2], True]] * 2


def test_the_noise_of_another_order_is_the_same_on_all_ranks(ranks):
    """With the noise `reorder` sums differ from those in the order of the ranks, but no rank from another."""
    program = "def body(rank):\n    return rank.all_reduce([1e8 if rank.number == 0 else 3.0])"

    plain, noisy = ranks(program, size=4), ranks(program, size=4, noise="seed=1,reorder")

    assert len({str(each["result"]) for each in noisy}) == 1
    assert noisy[0]["result"] != plain[0]["result"]
    assert noisy[0]["result"] == pytest.approx(plain[0]["result"], rel=1e-6)

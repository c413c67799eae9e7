"""Cards that fail, on emulated ones with the real torch_npu: the rest of the run goes on, nothing passes on nothing."""

from meta_tests.unattended.interruptions import ALL_REDUCE

ADDING = """
@requirement("demo/{name}")
def test_{name}(npu, evidence):
    '''A card adds.'''
    import time
    import torch
    time.sleep({seconds})
    evidence.check_equal("sum", (torch.ones(8, device=npu) + 1).cpu(), torch.full((8,), 2.0))
"""
FOUR = "".join(ADDING.format(name=f"adds{number}", seconds=0.3) for number in range(4))
ON_CARD_0 = {"NPU_EMULATOR_CARDS": "2"}


def test_a_lost_card(suite):
    """A card that computes nothing right is retired after one test; all others run on the other card and pass."""
    ran = suite(
        FOUR,
        "-n",
        "2",
        env={**ON_CARD_0, "NPU_EMULATOR_FAULTS": "aclnnMm:zero@card=0;aclnnMatmul:zero@card=0"},
        emulated=True,
    )

    outcomes = list(ran.outcomes.values())
    assert sorted(outcomes) == ["DEVICE_LOST", "PASS", "PASS", "PASS"], ran.stdout
    lost = next(record for record in ran.tests.values() if record["outcome"] == "DEVICE_LOST")
    assert "card 0 does not compute: the known-answer probe gave" in lost["reason"]
    assert {record["card"] for record in ran.tests.values() if record["outcome"] == "PASS"} == {"1"}
    assert "card 0 is lost" in ran.stdout


def test_a_card_that_hangs_when_it_is_initialised(suite):
    """A card that does not come up within its deadline is DEVICE_LOST and retired; the rest goes on elsewhere."""
    shorter = "import fixtures.watch\nfixtures.watch.CANARY = 20.0\n"
    env = {**ON_CARD_0, "NPU_EMULATOR_FAULTS": "aclrtSetDevice:hang@card=0"}
    ran = suite(FOUR, "-p", "shorter", "-n", "2", env=env, modules={"shorter": shorter}, emulated=True)

    assert sorted(ran.outcomes.values()) == ["DEVICE_LOST", "PASS", "PASS", "PASS"], ran.stdout
    lost = next(record for record in ran.tests.values() if record["outcome"] == "DEVICE_LOST")
    assert lost["reason"] == "the card did not answer a fresh process within 20 s, or killed it"
    assert "set_device" in lost["log"]


def test_no_card_is_left(suite):
    """Where every card is lost, what is left is NOT_RUN with the reason, and the run ends."""
    env = {"NPU_EMULATOR_CARDS": "1", "NPU_EMULATOR_FAULTS": "aclnnMm:zero;aclnnMatmul:zero"}
    ran = suite(FOUR, "-n", "1", env=env, emulated=True)

    assert sorted(ran.outcomes.values()) == ["DEVICE_LOST", "NOT_RUN", "NOT_RUN", "NOT_RUN"]
    reasons = {record["reason"] for record in ran.tests.values() if record["outcome"] == "NOT_RUN"}
    assert reasons == {"no card is left that computes (lost: 0)"}


DECEIVED = """
@requirement("demo/deceived")
def test_deceived(npu, evidence):
    '''A card has an error function.'''
    import torch
    torch.erf(torch.ones(8, device=npu))
    evidence.check_equal("shape", 8, 8)
"""


def test_a_pass_on_a_dead_process(suite):
    """A test that passes although its operator failed asynchronously did not: the known answer after it is wrong."""
    env = {"NPU_EMULATOR_FAULTS": "aclnnErf:fail=507015"}
    ran = suite(DECEIVED + ADDING.format(name="after", seconds=0), "-n", "1", env=env, emulated=True)

    assert ran.outcomes == {"test_deceived": "DEVICE_LOST", "test_after": "PASS"}
    assert ran.tests["test_deceived"]["reason"].startswith("it ended as PASS, but then the known-answer probe")
    assert ran.tests["test_deceived"]["suspect"] is True
    assert ran.returncode == 1


GREEDY = """
@requirement("demo/greedy")
def test_greedy(npu, evidence):
    '''A card has endless memory.'''
    import torch
    held = []
    while True:
        held.append(torch.empty(16 << 20, dtype=torch.uint8, device=npu))

@requirement("demo/modest")
def test_modest(npu, evidence):
    '''A card has some memory.'''
    import torch
    evidence.check_equal("sum", torch.ones(128 << 18, device=npu).sum().item(), float(128 << 18))
"""


def test_out_of_memory_in_one_test(suite):
    """A test that takes all memory fails alone: what it held is given back before the next one."""
    ran = suite(GREEDY, "-n", "1", env={"NPU_EMULATOR_MEMORY": "256MiB"}, emulated=True)

    assert ran.outcomes == {"test_greedy": "FAIL", "test_modest": "PASS"}
    assert "OutOfMemoryError" in ran.tests["test_greedy"]["reason"]
    assert ran.tests["test_greedy"]["worker"] == ran.tests["test_modest"]["worker"]


def test_a_hang_in_a_collective(suite, tmp_path):
    """A rank that never comes out of a collective is a TIMEOUT at the deadline, with the stacks of all ranks."""
    code = """
    import os, pathlib
    from meta_tests.deadlines import strike_when

    log = pathlib.Path(os.environ["NPU_EMULATOR_LOG"])
    strike_when(lambda: log.exists() and '"fired": 1' in log.read_text())  # rank 1 is in its collective

    @pytest.mark.multi_npu
    @requirement("demo/hangs")
    def test_hangs(ranks, evidence):
        '''All ranks reduce.'''
        from all_reduce import AllReduce
        evidence.check_equal("ranks", len(ranks(AllReduce(), 2)), 2)
    """
    env = {"NPU_EMULATOR_CARDS": "2", "NPU_EMULATOR_FAULTS": "HcclAllReduce:hang@rank=1"}
    env["NPU_EMULATOR_LOG"] = str(tmp_path / "log.jsonl")
    ran = suite(code, "-n", "1", env=env, modules={"all_reduce": ALL_REDUCE}, emulated=True)

    record = ran.tests["test_hangs"]
    assert record["outcome"] == "TIMEOUT", ran.stdout
    assert "rank 1  " in record["reason"]
    assert record["reason"].count('all_reduce.py", line') >= 2


LEFT = """
@pytest.mark.host
@requirement("demo/sets")
def test_sets(evidence):
    '''A library sets variables while a workload runs, and a test sets one itself.'''
    import copy, os
    from fixtures import training
    from leaves import Leaves
    evidence.check_equal("set for itself", training.run(Leaves(), "cpu"), "fp16")
    evidence.check_equal("left by the workload", os.environ.get("DEMO_PRECISION"), None)
    os.environ = copy.deepcopy(os.environ)  # as datasets does that maps in processes
    os.environ["DEMO_PRECISION"] = "bf16"

@pytest.mark.host
@requirement("demo/finds")
def test_finds(evidence):
    '''The next test finds the environment of the run.'''
    import os
    evidence.check_equal("left by the test before", os.environ.get("DEMO_PRECISION"), None)
"""
LEAVES = """
from dataclasses import dataclass
@dataclass(frozen=True)
class Leaves:
    pass

def run(spec, device, dtype=None):
    import os
    return os.environ.setdefault("DEMO_PRECISION", "fp16")
"""


def test_what_is_left_in_the_environment(suite):
    """Variables that a workload or a test sets are gone after it: transformers 4 sets the precision of later ones."""
    ran = suite(LEFT, "-n", "0", modules={"leaves": LEAVES})

    assert ran.outcomes == {"test_sets": "PASS", "test_finds": "PASS"}, ran.stdout

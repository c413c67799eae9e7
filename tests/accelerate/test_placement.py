"""Which card each rank gets: under every launcher, on all cards and on some, over hccl and nothing else."""

import pytest

from fixtures.errors import RankFailed
from fixtures.requirement import requirement, unsupported
from fixtures.workloads import zero
from fixtures.workloads.accelerate_ranks import PLACEMENTS, everything, under
from fixtures.workloads.placement import HELD, Placement

pytestmark = pytest.mark.multi_npu

EVERY_LAUNCHER = ("torchrun", "torch.distributed.launch", "accelerate", "deepspeed")
SUBSETS = ("torchrun on a subset", "accelerate --gpu_ids", "deepspeed")
DEFAULT, TRANSFORMERS, *BACKENDS = PLACEMENTS
TOGETHER = everything(2)


@pytest.fixture
def placed(ranks):
    """placed(spec, world_size, **how) -> the details of each rank."""

    def measure(spec: Placement, world_size: int = 2, **how):
        if how.get("launcher") == "deepspeed" and not zero.installed():
            unsupported("deepspeed is not installed: pip install deepspeed")
        return [result.details for result in ranks(spec, world_size, **how)]

    return measure


def check(evidence, details: list[dict], kind: str = "MULTI_NPU") -> None:
    """Rank R is on npu:R alone, whatever way a tensor goes there, and the ranks add up over hccl."""
    for rank, found in enumerate(details):
        expected = {"device": f"npu:{rank}", "kind": kind, "rank": rank, "local rank": rank, "backend": "hccl"}
        expected |= {"world size": len(details), "sum": sum(range(1, len(details) + 1))}
        evidence.check_equal(f"rank {rank}", {name: found.get(name) for name in expected}, expected)
        evidence.check_equal("where tensors land", set(found["tensors"].values()), {f"npu:{rank}"})
        # What torch calls npu:1 may be another card: that two ranks hold memory of one shows in what it has left.
        evidence.check_below("memory taken of the own card", found["taken"], 1.5 * HELD, "once what a rank holds")
        assert found["taken"] >= HELD / 2, found["taken"]


@requirement("accelerate/rank-to-card", level="core")
@pytest.mark.parametrize("launcher", EVERY_LAUNCHER)
def test_each_rank_has_its_card(placed, evidence, launcher):
    """Under every launcher rank R computes on npu:R, also what goes to "npu" without a number, over hccl."""
    check(evidence, placed(DEFAULT, launcher=launcher, together=under(launcher)))


@requirement("accelerate/send-to-device-npu", level="core")
def test_what_is_sent_to_the_npu_stays_on_the_own_card(placed, evidence):
    """On every rank send_to_device(batch, "npu") puts the batch on the rank's own card."""
    details = placed(DEFAULT, together=TOGETHER)

    landed = [found['send_to_device("npu")'] for found in details]
    evidence.check_equal("where it lands", landed, ["npu:0", "npu:1"])


@requirement("accelerate/rank-to-card-of-four", level="core")
def test_each_of_four_ranks_has_its_card(placed, evidence):
    """Told nothing, accelerate launch starts a rank for each of four cards, in the order of their numbers."""
    check(evidence, placed(DEFAULT, 4, launcher="accelerate, no configuration"))


@requirement("accelerate/subset-of-cards", level="core")
@pytest.mark.parametrize("launcher", SUBSETS)
def test_a_subset_of_the_cards_is_used(placed, evidence, launcher):
    """Told to use two cards of four that are not the first ones, two ranks see these two, in order, and no other."""
    details = placed(DEFAULT, 2, cards=4, launcher=launcher)

    check(evidence, details)
    for found in details:
        evidence.check_equal("visible cards", len(found["visible"].split(",")), 2)
        evidence.check_equal("visible cards of all ranks", found["visible"], details[0]["visible"])


@pytest.mark.cli
@requirement("accelerate/launch-from-configuration", level="core")
@pytest.mark.parametrize(
    ("kind", "plugin"),
    [
        pytest.param("FSDP", {"version": 2, "reshard": False}, marks=pytest.mark.fsdp),
        pytest.param("DEEPSPEED", {"stage": 2, "clipping": 0.5}, marks=pytest.mark.deepspeed),
    ],
)
def test_configuration_files_are_obeyed(placed, evidence, kind, plugin):
    """Launched from a configuration file for FSDP or DeepSpeed, ranks have their cards, plugin and precision."""
    if kind == "DEEPSPEED" and not zero.installed():
        unsupported("deepspeed is not installed: pip install deepspeed")
    details = placed(DEFAULT, launcher=f"accelerate, {kind}")

    check(evidence, details, kind)
    for found in details:
        evidence.check_equal("plugin", found["plugin"], plugin)
        evidence.check_equal("precision", found["precision"], "bf16")


@requirement("accelerate/fewer-ranks-than-cards", level="core")
def test_fewer_ranks_than_cards(placed, evidence):
    """Two ranks that see four cards take the first two."""
    details = placed(DEFAULT, 2, cards=4)

    check(evidence, details)
    evidence.check_equal("visible cards", [len(found["visible"].split(",")) for found in details], [4, 4])


@pytest.mark.cli
@pytest.mark.host
@requirement("accelerate/descending-card-ids", level="extended")
def test_descending_ids_are_no_silent_cpu_run(ranks, evidence):
    """Cards named in descending order, which torch_npu does not take, are used or refused; nothing runs on the CPU."""
    said = ""
    try:
        ranks(DEFAULT, 2, cards=4, launcher="accelerate --gpu_ids, descending", fresh=True)
    except RankFailed as failed:
        said = str(failed)
    evidence.add(said=said[-2000:])
    evidence.check_equal("ranks that ran without a card", "cards [None, None]" in said, False)


@requirement("accelerate/main-process-first", level="core")
def test_the_main_process_goes_first(placed, evidence):
    """No rank enters main_process_first before rank 0 has left it."""
    details = placed(DEFAULT, 4, launcher="accelerate, no configuration")

    left = details[0]["order"][1]
    evidence.add(order=[found["order"] for found in details])
    early = [rank for rank, found in enumerate(details) if rank and found["order"][0] < left]
    evidence.check_equal("ranks that entered before rank 0 had left", early, [])


@requirement("transformers/rank-to-card", level="core")
@pytest.mark.parametrize("spec", [TRANSFORMERS, BACKENDS[0]], ids=["default", "hccl"])
def test_training_arguments_choose_card_and_backend(placed, evidence, spec):
    """TrainingArguments put rank R on npu:R over hccl, by themselves and with ddp_backend="hccl"."""
    check(evidence, placed(spec, together=TOGETHER))


@pytest.mark.host
@requirement("transformers/foreign-backend-is-refused", level="core")
@pytest.mark.parametrize("spec", BACKENDS[1:], ids=lambda spec: spec.backend)
def test_a_backend_of_other_devices_is_refused(placed, evidence, spec):
    """With ddp_backend="nccl" or "gloo" TrainingArguments raise an error that says to use hccl, on every rank."""
    for found in placed(spec, together=TOGETHER):
        assert "hccl" in found.get("error", ""), found
        evidence.check_equal("names what was asked for", spec.backend in found["error"], True)

"""Big models with from_pretrained(device_map=...) on several cards: one process that sees them all."""

import dataclasses

import pytest

from fixtures.placement_checks import check_placed, check_placement
from fixtures.requirement import requirement
from fixtures.workloads.decoding import Pipeline
from fixtures.workloads.model_placement import Placed

pytestmark = [pytest.mark.multi_npu, pytest.mark.big_model_inference]

SPLIT = tuple(
    (name, number)
    for number, names in enumerate(
        (("model.embed_tokens", "model.rotary_emb", "model.layers.0"), ("model.layers.1", "model.norm", "lm_head"))
    )
    for name in names
)
LIMITS = ((0, "330KB"), (1, "330KB"), ("cpu", "10MB"))
MAPS = {
    "explicit": Placed("from_pretrained", SPLIT, task="generate"),
    "auto": Placed("from_pretrained", "auto", task="generate"),
    "balanced": Placed("from_pretrained", "balanced"),
    "sequential": Placed("from_pretrained", "sequential", max_memory=((0, "330KB"), (1, "10MB"))),
    "limits": Placed("from_pretrained", "auto", max_memory=LIMITS, task="generate"),
}
FAMILIES = {
    family: Placed("from_pretrained", "balanced", family=family, task="generate")
    for family in ("qwen3_moe", "gemma2", "deepseek_v3", "t5", "bart", "mamba")
}
HALF = Placed("from_pretrained", "auto", dtype="bfloat16")
SECOND = {
    **{f"device_map={where!r}": Placed("from_pretrained", where) for where in (1, "npu:1", (("", 1),))},
    **{f"to({where!r})": Placed("to twice", where) for where in (1, "npu:1")},
}
PIPELINES = [Pipeline(1), Pipeline("npu:1")]
STEP = Placed("from_pretrained", SPLIT, task="step")
TOGETHER = (*MAPS.values(), *FAMILIES.values(), HALF, *SECOND.values(), *PIPELINES)


@pytest.fixture
def one_process(ranks):
    """one_process(workload) -> Measured, in one process that sees two cards."""
    return lambda workload: ranks(workload, 1, cards=2, launcher="python", together=TOGETHER, deadline=500)[0]


@requirement("transformers/device-map-over-cards", level="core")
@pytest.mark.parametrize("name", MAPS)
def test_a_model_over_cards_computes_what_the_cpu_does(one_process, reference, evidence, name):
    """However a map divides a model over two cards, every parameter is where it says, and the outputs are the CPU's."""
    measured = one_process(MAPS[name])

    check_placed(evidence, MAPS[name], measured, reference)
    assert set(measured.details["map"].values()) >= {"0", "1"}
    evidence.check_equal("host memory is used", "cpu" in measured.details["map"].values(), name == "limits")


@requirement("transformers/device-map-families", level="core")
@pytest.mark.parametrize("family", FAMILIES)
def test_families_over_cards_generate_what_the_cpu_does(one_process, reference, evidence, family):
    """A model of any family balanced over two cards, with tied weights, experts and caches, gives the CPU's tokens."""
    measured = one_process(FAMILIES[family])

    check_placed(evidence, FAMILIES[family], measured, reference)
    assert set(measured.details["map"].values()) == {"0", "1"}


@pytest.mark.bf16
@requirement("transformers/device-map-over-cards-bf16", level="core")
def test_a_model_over_cards_in_half_precision(one_process, reference, evidence):
    """A bfloat16 model over two cards computes as exactly as the CPU in bfloat16."""
    measured = one_process(HALF)

    evidence.check_equal("dtypes", measured.details["dtypes"], ("torch.bfloat16",))
    check_placed(evidence, HALF, measured, reference)


@requirement("transformers/second-card", level="core")
@pytest.mark.parametrize("name", SECOND)
def test_a_model_is_loaded_or_moved_to_the_second_card(one_process, reference, evidence, name):
    """Loaded or moved to the second card by number or name, a model is there with all of it, and computes there."""
    measured = one_process(SECOND[name])

    check_placed(evidence, SECOND[name], measured, reference, {"": 1})
    evidence.check_equal("computed on", set(measured.details["executed on"].values()), {("npu:1",)})


@requirement("transformers/pipeline-second-card", level="core")
@pytest.mark.parametrize("workload", PIPELINES, ids=["number", "name"])
def test_pipeline_generates_on_the_second_card(one_process, reference, evidence, workload):
    """A text-generation pipeline runs on the second card when it is told so by number or name."""
    measured = one_process(workload)

    evidence.check_equal("devices of the parameters", measured.parameter_devices, ("npu:1",))
    evidence.check_equal("texts", measured.details["texts"], reference(workload, "float32").details["texts"])


@requirement("transformers/step-over-cards", level="core")
def test_a_step_over_cards_has_the_gradients_of_the_cpu(ranks, reference, evidence):
    """Every gradient of training steps through a model on two cards is as exact as the CPU's."""
    spec = dataclasses.replace(STEP, repeat=30)

    measured = ranks(spec, 1, cards=2, launcher="python")[0]

    require_gradients(evidence, measured, reference, spec)


@requirement("transformers/step-over-cards-blocking", level="core")
def test_a_blocking_step_over_cards_has_the_gradients_of_the_cpu(ranks, reference, evidence):
    """With blocking launches every gradient of training steps through a model on two cards is as exact as the CPU's."""
    spec = dataclasses.replace(STEP, repeat=30)

    measured = ranks(spec, 1, cards=2, launcher="python", env={"ASCEND_LAUNCH_BLOCKING": "1"})[0]

    require_gradients(evidence, measured, reference, spec)


def require_gradients(evidence, measured, reference, spec):
    """The model is on two cards; outputs, loss and gradients conform."""
    truth, peer = reference(spec, "float64"), reference(spec, "float32")
    check_placement(evidence, measured.details, dict(spec.device_map))
    evidence.check_curve("loss", measured.losses, truth.losses)
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)

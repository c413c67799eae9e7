"""Adapters on several cards: on the second card, on a model that is split over two, and data parallel."""

import dataclasses

import pytest

from fixtures.quantised_checks import check_model, demand
from fixtures.requirement import requirement
from fixtures.workloads.adapter_cards import AdapterOnCards
from fixtures.workloads.quantised_model import QuantisedModel

pytestmark = [pytest.mark.multi_npu, pytest.mark.peft_adapter]

RANK = AdapterOnCards("rank")
CHECKPOINTED = dataclasses.replace(RANK, gradient_checkpointing=True)
QUANTISED = QuantisedModel("nf4", nested=True, lora=2)
TOGETHER = (RANK, CHECKPOINTED, QUANTISED)
# A model over two cards trains only if launches block: known defect EVENT, which transformers/step-over-cards watches.
BLOCKING = {"ASCEND_LAUNCH_BLOCKING": "1"}
PLACES = {"second card": AdapterOnCards("npu:1"), "split": AdapterOnCards("split")}


def check_steps(evidence, reference, spec, measured) -> None:
    """Logits of the loaded adapter, its first gradients and its weights after training are as exact as the CPU's."""
    __tracebackhide__ = True
    on_cpu = dataclasses.replace(spec, gradient_checkpointing=False)
    truth, peer = reference(on_cpu, "float64"), reference(on_cpu, "float32")
    logits = (each.details["logits"] for each in (measured, truth, peer))
    evidence.check_tensor("logits", *logits)
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)
    evidence.check_tensors("weight", measured.final_weights, truth.final_weights, peer.final_weights)


@requirement("peft/adapter-on-other-cards", level="core")
@pytest.mark.parametrize("place", PLACES)
def test_adapter_is_where_its_base_is(ranks, reference, evidence, place):
    """An adapter loaded onto the second card, or onto a model split over two, lies beside its matrices and trains."""
    spec = PLACES[place]

    measured = ranks(spec, 1, cards=2, launcher="python", together=tuple(PLACES.values()), env=BLOCKING)[0]

    found = measured.details["base devices"]
    second = [name for name in found if place != "split" or ".layers.1." in name]
    wanted = {name: "npu:1" if name in second else "npu:0" for name in found}
    evidence.check_equal("devices of the base", found, wanted)
    evidence.check_equal("devices of the adapter", measured.details["adapter devices"], found)
    check_steps(evidence, reference, spec, measured)
    evidence.check_curve("training loss", measured.losses, reference(spec, "float64").losses)


@requirement("peft/adapter-on-its-rank", level="core")
def test_adapter_is_loaded_on_the_card_of_the_rank(ranks, evidence):
    """On every rank an adapter that is loaded ends on the rank's own card."""
    measured = ranks(RANK, 2, together=TOGETHER)

    for rank, result in enumerate(measured):
        devices = set(result.details["adapter devices"].values())
        evidence.check_equal("devices of the adapter", devices, {f"npu:{rank}"})


@requirement("peft/adapter-file-on-its-rank", level="extended")
def test_other_cards_are_left_alone(ranks, evidence):
    """On every rank an adapter is loaded without taking memory of another card."""
    measured = ranks(RANK, 2, together=TOGETHER)

    taken = {rank: result.details["elsewhere"] for rank, result in enumerate(measured)}
    evidence.check_equal("bytes on other cards, by rank", taken, {0: 0, 1: 0})


@requirement("peft/adapter-ddp", level="core")
@pytest.mark.parametrize("spec", [RANK, CHECKPOINTED], ids=["plain", "gradient-checkpointing"])
def test_two_ranks_train_one_adapter(ranks, reference, evidence, spec):
    """Data parallel on two cards an adapter has first gradients and final weights as exact as in one process."""
    measured = ranks(spec, 2, together=TOGETHER)

    for result in measured:
        check_steps(evidence, reference, spec, result)


@pytest.mark.quantization
@requirement("peft/qlora-ddp", level="core")
def test_two_ranks_train_an_adapter_of_a_quantised_base(ranks, reference, evidence, tmp_path):
    """Every rank quantises onto its own card; LoRA on it, data parallel, trains as exactly as in one process."""
    demand(QUANTISED.scheme)
    measured = ranks(QUANTISED, 2, together=TOGETHER)

    evidence.check_equal("stored weights", *(result.details["weights"] for result in measured))
    for rank, result in enumerate(measured):
        evidence.check_equal("devices", result.details["devices"], (f"npu:{rank}",))
        truth, peer = check_model(evidence, reference, QUANTISED, result, tmp_path)
        evidence.check_gradients(result.gradients, truth.gradients, peer.gradients)
        evidence.check_tensors("weight", result.final_weights, truth.final_weights, peer.final_weights)

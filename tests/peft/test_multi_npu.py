"""Adapters on several cards: on the second card, on a model that is split over two, and data parallel."""

import dataclasses

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.adapter_cards import AdapterOnCards

pytestmark = [pytest.mark.multi_npu, pytest.mark.peft_adapter]

RANK = AdapterOnCards("rank")
CHECKPOINTED = dataclasses.replace(RANK, gradient_checkpointing=True)
TOGETHER = (RANK, CHECKPOINTED)
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

    measured = ranks(spec, 1, cards=2, launcher="python", together=tuple(PLACES.values()))[0]

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
@pytest.mark.parametrize("spec", TOGETHER, ids=["plain", "gradient-checkpointing"])
def test_two_ranks_train_one_adapter(ranks, reference, evidence, spec):
    """Data parallel on two cards an adapter has first gradients and final weights as exact as in one process."""
    measured = ranks(spec, 2, together=TOGETHER)

    for result in measured:
        check_steps(evidence, reference, spec, result)

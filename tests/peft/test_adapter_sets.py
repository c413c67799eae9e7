"""Several adapters in one model on one card: chosen, combined, mixed in a batch, merged, exchanged, taken out."""

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.adapter_sets import COMBINATIONS, RANKS, AdapterSet

pytestmark = [pytest.mark.single_npu, pytest.mark.peft_adapter]


ADAPTERS = AdapterSet()


def use(train, reference, evidence, adapters=ADAPTERS):
    """What the adapters gave on the card, and a check of the logits by their name."""
    measured = train(adapters)
    truth, peer = (reference(adapters, dtype).details for dtype in ("float64", "float32"))

    def check(name: str) -> None:
        __tracebackhide__ = True
        evidence.check_tensor(f"logits, {name}", measured.details[name], truth[name], peer[name])

    return measured, check


@requirement("peft/several-adapters", level="core")
@pytest.mark.parametrize("name", [*RANKS, "one and two"])
def test_chosen_adapter_is_used(train, reference, evidence, name):
    """Each adapter of a model, and two of them together, give the CPU's logits when they are chosen."""
    measured, check = use(train, reference, evidence)

    evidence.check_equal("devices of the parameters", measured.parameter_devices, ("npu:0",))
    check(name)
    others = [measured.details[other] for other in ("base", *RANKS) if other != name]
    assert all((measured.details[name] != other).any() for other in others)


@requirement("peft/several-adapters-combined", level="core")
@pytest.mark.parametrize("how", COMBINATIONS)
def test_combined_adapter(train, reference, evidence, how):
    """An adapter that peft combines from others, in each way, gives the logits of the CPU's combination."""
    apart = how not in ADAPTERS.combinations
    _, check = use(train, reference, evidence, AdapterSet(combinations=(how,)) if apart else ADAPTERS)
    check(how)


@requirement("peft/several-adapters-in-a-batch", level="core")
def test_every_row_has_its_adapter(train, reference, evidence):
    """In a batch whose rows name their adapters, or none, each row has the logits of that adapter alone."""
    measured, check = use(train, reference, evidence)

    check("mixed")
    check("rows")
    evidence.check_tensor(
        "mixed rows beside single ones", *(measured.details[name] for name in ("mixed", "rows", "rows"))
    )


@requirement("peft/several-adapters-merged", level="core")
def test_several_adapters_are_merged(train, reference, evidence):
    """Two adapters merged into the base at once give the logits of both together."""
    _, check = use(train, reference, evidence)
    check("merged")


@requirement("peft/several-adapters-taken-out", level="core")
def test_switched_off_and_taken_out(train, reference, evidence):
    """Switched off, or taken out of the model, several adapters leave the base's own logits; a deleted one is gone."""
    measured, check = use(train, reference, evidence)

    check("disabled")
    check("base")
    evidence.check_equal("adapters after two was deleted", measured.details["names"], ("one", "three"))


@requirement("peft/hotswap", level="core")
def test_weights_are_exchanged_in_place(train, reference, evidence):
    """With the weights of a saved adapter put in its place an adapter gives the saved one's logits."""
    measured, check = use(train, reference, evidence)

    check("hotswapped")
    two = measured.details["two"]
    evidence.check_tensor("logits beside those of the saved one", measured.details["hotswapped"], two, two)

"""What is done with an adapter beside training it: switched off, saved, loaded, merged into the base and taken out."""

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.adapter_configs import METHODS
from fixtures.workloads.adapters import AdapterUse

pytestmark = [pytest.mark.single_npu, pytest.mark.peft_adapter]


def uses(condition=lambda method: True):
    """Specifications of the methods for which the condition holds.

    Prompts are learned for Llama alone, because peft cannot switch them off on a model that does not generate; LoRA-FA
    is LoRA once it is trained.
    """
    return [
        AdapterUse(name, base, merge=method.merges)
        for name, method in METHODS.items()
        for base in method.bases
        if condition(method) and (base == "llama" or method.merges) and name != "lora_fa"
    ]


def for_each(specs):
    """Parametrises a test by specifications."""
    return pytest.mark.parametrize("use", specs, ids=[f"{spec.method}-{spec.base}" for spec in specs])


@requirement("peft/adapter-logits", level="core")
@for_each(uses())
def test_logits_match_the_cpu(train, reference, evidence, use):
    """The logits of a model with an adapter are as close to the exact ones as the CPU's, and are not the base's."""
    measured = train(use)

    truth, peer = reference(use, "float64"), reference(use, "float32")
    evidence.check_equal("devices of the parameters", measured.parameter_devices, ("npu:0",))
    evidence.check_tensor("logits", measured.details["logits"], truth.details["logits"], peer.details["logits"])
    assert (measured.details["logits"] != measured.details["base"]).any()


@requirement("peft/adapter-switched-off", level="core")
@for_each(uses(lambda method: method.restores))
def test_switched_off_adapter_leaves_the_base(train, evidence, use):
    """With its adapter switched off a model gives the base's logits bitwise, and switched on again the adapter's."""
    measured = train(use)

    evidence.check_equal("logits switched off", measured.details["disabled"], measured.details["base"])
    evidence.check_equal("logits switched on again", measured.details["enabled again"], measured.details["logits"])


# What is learned of X-LoRA, its classifier, peft 0.21.2 does not save on any device.
SAVED = [spec for spec in uses() if spec.method != "xlora"]


@pytest.mark.checkpoint
@requirement("peft/adapter-save-and-load", level="core")
@for_each(SAVED)
def test_saved_adapter_loads_on_the_card_and_on_the_cpu(train, reference, evidence, use):
    """An adapter saved from the card is loaded bitwise, there and on the CPU, and gives the same logits."""
    measured = train(use)

    found, truth, peer = measured.details, reference(use, "float64").details, reference(use, "float32").details
    assert found["saved"]
    evidence.check_equal("devices of the loaded model", found["loaded: devices"], ("npu:0",))
    evidence.check_equal("weights loaded on the card", found["loaded: weights"], found["saved"])
    evidence.check_equal("weights loaded on the CPU", found["loaded on the CPU: weights"], found["saved"])
    for place in ("loaded", "loaded on the CPU"):
        evidence.check_tensor(f"logits {place}", found[place], truth["logits"], peer[place])


@requirement("peft/adapter-merge", level="core")
@for_each(uses(lambda method: method.merges))
def test_merged_adapter_gives_the_same_logits(train, reference, evidence, use):
    """Merged into the base, merged and unloaded, or taken out again, an adapter gives the logits that it gave."""
    measured = train(use)

    truth, peer = reference(use, "float64").details, reference(use, "float32").details
    assert measured.details["merged weights changed"]
    assert not any("lora" in name or "base_layer" in name for name in measured.details["unloaded names"])
    for state in ("merged", "unmerged", "unloaded"):
        evidence.check_tensor(f"logits {state}", measured.details[state], truth["logits"], peer[state])


@requirement("peft/adapter-unmerge", level="core")
@for_each(uses(lambda method: method.merges))
def test_unmerging_restores_the_base(train, reference, evidence, use):
    """Taking a merged adapter out of the base restores its weights as closely as on the CPU."""
    measured = train(use)

    truth, peer = reference(use, "float64").details, reference(use, "float32").details
    floating = [name for name, tensor in truth["base weights"].items() if tensor.is_floating_point()]
    found, exact, other = (
        {name: tensors[name] for name in floating}
        for tensors in (measured.details["unmerged weights"], truth["base weights"], peer["unmerged weights"])
    )
    evidence.check_tensors("weight", found, exact, other)

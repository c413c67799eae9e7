"""Adapters whose initial weights peft computes on the accelerator."""

import pytest

from fixtures import quantisation
from fixtures.requirement import requirement, unsupported
from fixtures.workloads.adapter_init import LoftQ, OffloadedDora

pytestmark = [pytest.mark.single_npu, pytest.mark.peft_adapter]


@requirement("peft/dora-ephemeral-offload", level="extended")
def test_offloaded_dora_starts_from_the_cpu_magnitudes(train, reference, evidence):
    """DoRA on a base in host memory, whose start the card computes, has the initial weights that the CPU gives it."""
    measured = train(OffloadedDora())

    truth, peer = reference(OffloadedDora(), "float64"), reference(OffloadedDora(), "float32")
    evidence.check_tensors("weight", measured.initial_weights, truth.initial_weights, peer.initial_weights)


@pytest.mark.quantization
@requirement("peft/loftq", level="extended")
def test_loftq_begins_closer_to_the_base(train, evidence):
    """LoftQ's adapter takes a quantised base closer to the base's own weights than quantisation left it."""
    if reason := quantisation.missing("bitsandbytes", "scipy"):
        unsupported(f"LoftQ of peft quantises by bitsandbytes and scipy: {reason}")

    measured = train(LoftQ())

    evidence.add(**measured.details)
    assert 0 < measured.details["initial error"] < measured.details["quantised error"]

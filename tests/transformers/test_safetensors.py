"""safetensors: tensors of every dtype from a file right onto a card, whole and in slices, and back."""

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.device_calls import SafeTensors

pytestmark = [pytest.mark.big_model_inference, pytest.mark.checkpoint]

SECOND = [SafeTensors("npu:1"), SafeTensors(1)]


@pytest.mark.single_npu
@requirement("transformers/safetensors", level="core")
@pytest.mark.parametrize("device", ["npu", "npu:0", 0])
def test_files_are_read_onto_the_card(train, reference, evidence, device):
    """Tensors of every dtype are read onto the card bit for bit, whole and sliced, and saved from there as they are."""
    require_equal(evidence, train(SafeTensors(device)), reference(SafeTensors(device), "float32"), "npu:0")


@pytest.mark.multi_npu
@requirement("transformers/safetensors-second-card", level="core")
@pytest.mark.parametrize("workload", SECOND, ids=["name", "number"])
def test_files_are_read_onto_the_second_card(ranks, reference, evidence, workload):
    """Read onto the second card by name or number, tensors are there, bit for bit."""
    measured = ranks(workload, 1, cards=2, launcher="python", together=tuple(SECOND))[0]

    require_equal(evidence, measured, reference(workload, "float32"), "npu:1")


def require_equal(evidence, measured, expected, device: str):
    """Everything that was read is on the device and equal to what the CPU reads."""
    evidence.check_equal("devices", measured.parameter_devices, (device,))
    for name in ("dtypes", "loaded", "opened", "slices", "saved"):
        evidence.check_equal(name, measured.details[name], expected.details[name])

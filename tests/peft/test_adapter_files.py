"""Files of adapters: either format, made on the card, on the CPU or on a GPU, loaded on the card in every way."""

import itertools

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.adapter_files import FILES, LoadedAdapter, SavedAdapter

pytestmark = [pytest.mark.single_npu, pytest.mark.peft_adapter, pytest.mark.checkpoint]


def check_loaded(evidence, reference, found, made, directory) -> None:
    """On the card a loaded adapter has the weights of the file bitwise, and the logits of the CPU."""
    __tracebackhide__ = True
    evidence.check_equal("devices of the parameters", found.parameter_devices, ("npu:0",))
    evidence.check_equal("weights", found.final_weights, made.final_weights)
    peer = reference(LoadedAdapter(directory), "float32").details["logits"]
    evidence.check_tensor("logits", found.details["logits"], peer.double(), peer)


@requirement("peft/adapter-file-made-on-the-card", level="core")
@pytest.mark.parametrize(
    ("format", "torch_device", "low_cpu_mem_usage"),
    list(itertools.product(FILES, ["", "cpu", "npu:0"], [False, True])),
    ids=lambda value: {"": "anywhere", True: "lean", False: "whole"}.get(value, value),
)
def test_file_from_the_card(train, reference, evidence, tmp_path, format, torch_device, low_cpu_mem_usage):
    """A file made on the card, in either format, is loaded bitwise through any device, made on meta or not."""
    directory = str(tmp_path)
    made = train(SavedAdapter(directory, format))
    found = train(LoadedAdapter(directory, torch_device, low_cpu_mem_usage))

    assert (tmp_path / FILES[format]).exists()
    evidence.check_equal("devices where it was made", made.parameter_devices, ("npu:0",))
    check_loaded(evidence, reference, found, made, directory)


@requirement("peft/adapter-file-made-elsewhere", level="core")
@pytest.mark.parametrize("maker", ["cpu-safetensors", "cpu-bin", "gpu-bin"])
def test_file_from_elsewhere(train, reference, evidence, tmp_path, maker):
    """A file made where there is no NPU is loaded bitwise, also one whose tensors name a GPU."""
    directory, (device, format) = str(tmp_path), maker.split("-")
    made = reference(SavedAdapter(directory, format, saved_as="cuda:0" if device == "gpu" else ""), "float32")
    found = train(LoadedAdapter(directory))

    check_loaded(evidence, reference, found, made, directory)


@requirement("peft/adapter-file-beside-another", level="core")
@pytest.mark.parametrize("low_cpu_mem_usage", [False, True], ids=["whole", "lean"])
def test_file_is_loaded_beside_another_adapter(train, reference, evidence, tmp_path, low_cpu_mem_usage):
    """An adapter loaded into a model on the card that has one already is on the card, and is used when it is chosen."""
    directory = str(tmp_path)
    made = reference(SavedAdapter(directory), "float32")
    found = train(LoadedAdapter(directory, low_cpu_mem_usage=low_cpu_mem_usage, beside=True))

    weights = {name: tensor for name, tensor in found.final_weights.items() if name in made.final_weights}
    evidence.check_equal("weights", weights, made.final_weights)
    evidence.check_equal("devices of the parameters", found.parameter_devices, ("npu:0",))
    peer = reference(LoadedAdapter(directory), "float32").details["logits"]
    evidence.check_tensor("logits", found.details["logits"], peer.double(), peer)

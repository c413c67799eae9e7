"""Finding the cards: the visible ones, their names, their memory, and the libraries' view of them."""

import json

import pytest

from fixtures.chips import chip
from fixtures.requirement import requirement

pytestmark = [pytest.mark.single_npu, pytest.mark.runtime]

# A process reads the variable once, when it first asks for cards; so each list gets a child, forked before that.
COUNT_EACH = """
import os
import torch
for visible in json.loads(os.environ["VISIBLE_LISTS"]):
    child = os.fork()
    if child == 0:
        os.environ["ASCEND_RT_VISIBLE_DEVICES"] = visible
        count, available = torch.npu.device_count(), torch.npu.is_available()
        report(**{visible: count if available == (count > 0) else f"{count}, but is_available() is {available}"})
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, (visible, status)
"""


@requirement("runtime/libraries-see-the-card", level="core")
def test_libraries_choose_the_npu(npu, evidence, tmp_path):
    """Each of transformers, accelerate and peft chooses the card that torch_npu reports."""
    import accelerate
    import peft
    import torch
    import transformers

    devices = {
        "accelerate": accelerate.Accelerator().device.type,
        "transformers": str(transformers.TrainingArguments(output_dir=str(tmp_path), report_to=[]).device),
        "peft": peft.utils.infer_device(),
    }

    evidence.add(devices=devices)
    assert transformers.utils.is_torch_npu_available(check_device=True)
    assert accelerate.utils.is_npu_available(check_device=True)
    assert devices == {"accelerate": "npu", "transformers": str(npu), "peft": "npu"}
    assert (torch.ones(4, device=npu) * 3).sum().item() == 12


@requirement("runtime/device-name", level="core")
def test_device_name_is_a_known_chip(npu, evidence):
    """The card names its chip, the same by every way of asking, and the chip is one that this suite knows."""
    import torch

    name = torch.npu.get_device_name(npu)

    evidence.add(name=name, series=chip(name).series)
    assert torch.npu.get_device_properties(npu).name == name
    assert torch.npu.is_bf16_supported() is chip(name).bf16
    assert torch.ones(2, device=npu).device == npu


@requirement("runtime/memory-figures", level="core")
def test_memory_figures_follow_allocations(npu, evidence):
    """Allocated memory grows by what a tensor needs and returns when the tensor is freed."""
    import torch

    size = 32 * 2**20
    free, total = torch.npu.mem_get_info(npu)
    properties = torch.npu.get_device_properties(npu)
    before = torch.npu.memory_allocated(npu)

    tensor = torch.ones(size // 4, dtype=torch.float32, device=npu)
    grown = torch.npu.memory_allocated(npu) - before
    peak = torch.npu.max_memory_allocated(npu)
    checksum = tensor.sum().item()
    del tensor
    after = torch.npu.memory_allocated(npu)

    evidence.add(total=total, free=free, grown=grown, peak=peak)
    assert 0 < free <= total
    assert abs(properties.total_memory - total) <= 0.1 * total
    # torch_npu asks for 32 bytes of padding and rounds up to 512.
    assert size <= grown <= size + 1024
    assert peak >= before + grown
    assert after <= before + 1024
    assert checksum == size // 4


@requirement("runtime/out-of-memory", level="core")
def test_out_of_memory_is_an_exception_and_recoverable(npu, evidence):
    """Asking for more memory than the card has raises torch.OutOfMemoryError, and the process computes on."""
    import torch

    _, total = torch.npu.mem_get_info(npu)

    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(2 * total, dtype=torch.uint8, device=npu)

    evidence.add(message=str(caught.value)[:200])
    assert (torch.arange(5.0, device=npu) ** 2).sum().item() == 30


@requirement("runtime/seed", level="core")
def test_seed_determines_random_numbers(npu):
    """A seed determines the card's random numbers, and a restored state continues their stream."""
    import torch

    def draw() -> torch.Tensor:
        return torch.randn(1000, device=npu).cpu()

    torch.npu.manual_seed(7)
    first = draw()
    state = torch.npu.get_rng_state(npu)
    second = draw()
    torch.npu.manual_seed(7)
    again = draw()
    torch.npu.set_rng_state(state, npu)
    continued = draw()
    torch.npu.manual_seed(8)
    other = draw()

    assert torch.equal(first, again)
    assert torch.equal(second, continued)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)
    # Of 1000 standard normal numbers; six standard errors.
    assert abs(first.mean().item()) < 6 / 1000**0.5
    assert abs(first.std().item() - 1) < 6 / 2000**0.5


@pytest.mark.host
@requirement("runtime/visible-devices", level="core")
def test_visible_devices_on_any_box(npu, probe, evidence):
    """ASCEND_RT_VISIBLE_DEVICES is read up to its first bad entry, and shows no card unless it ascends strictly."""
    expected = {"": 0, "0": 1, "0,0": 0, "0,x": 1, "4096": 0, "0,4096": 1}

    probed = probe(COUNT_EACH, VISIBLE_LISTS=json.dumps(list(expected)))

    assert probed.returncode == 0, probed.output
    evidence.check_equal("visible cards", {visible: probed.facts.get(visible) for visible in expected}, expected)

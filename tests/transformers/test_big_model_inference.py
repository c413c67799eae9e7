"""Big models with from_pretrained(device_map=...) on one card: every form of a map, offload, generation, dtypes."""

import dataclasses

import pytest

from fixtures.placement_checks import GUARD, check_computed, check_placement, the_map
from fixtures.requirement import requirement
from fixtures.workloads.model_placement import Placed

pytestmark = [pytest.mark.single_npu, pytest.mark.big_model_inference]

FIRST = ("model.embed_tokens", "model.rotary_emb", "model.layers.0")
SECOND = ("model.layers.1", "model.norm", "lm_head")
CPU = (*((name, 0) for name in FIRST), *((name, "cpu") for name in SECOND))
DISK = (*((name, "npu:0") for name in FIRST), *((name, "disk") for name in SECOND))
BOTH = (*((name, 0) for name in FIRST), ("model.layers.1", "cpu"), ("model.norm", 0), ("lm_head", "disk"))
# Less than the model needs, with room for the largest layer that is offloaded.
LITTLE = ((0, "420KB"), ("cpu", "100MB"))

LOAD_TWICE = """
import tempfile
import torch
from transformers import LlamaConfig, LlamaForCausalLM

sizes = dict(vocab_size=4096, hidden_size=512, intermediate_size=2048, num_hidden_layers=4, num_attention_heads=8)
model = LlamaForCausalLM(LlamaConfig(**sizes))
size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
with tempfile.TemporaryDirectory() as directory:
    model.save_pretrained(directory)
    torch.npu.set_per_process_memory_fraction(1.5 * size / torch.npu.get_device_properties(0).total_memory)
    peaks = []
    for _ in range(2):
        loaded = LlamaForCausalLM.from_pretrained(directory, device_map=0)
        peaks.append(torch.npu.max_memory_allocated())
        devices = sorted({str(parameter.device) for parameter in loaded.parameters()})
        equal = all(torch.equal(p.cpu(), q) for p, q in zip(loaded.parameters(), model.parameters(), strict=True))
        del loaded
report(size=size, peaks=peaks, devices=devices, equal=equal, left=torch.npu.memory_allocated())
"""


@requirement("transformers/device-map-one-card", level="core")
@pytest.mark.parametrize("device_map", ["auto", "sequential", 0, "npu", "npu:0", (("", 0),), (("", "npu:0"),)], ids=str)
def test_every_map_of_one_card_loads_there(train, reference, evidence, device_map):
    """However a map says one card, the model is loaded there with all parameters and buffers, and computes there."""
    spec = Placed("from_pretrained", device_map)

    measured = train(spec)

    check_placement(evidence, measured.details, the_map(measured.details))
    check_computed(evidence, spec, measured, reference(spec, "float64"), reference(spec, "float32"))


@requirement("transformers/device-map-offload", level="core")
@pytest.mark.parametrize("device_map", [CPU, DISK, BOTH], ids=["cpu", "disk", "cpu-and-disk"])
def test_offloaded_model_generates_what_the_cpu_does(train, reference, evidence, device_map):
    """A model partly in host memory or on disk computes on the card, and gives the CPU's outputs and tokens."""
    spec = Placed("from_pretrained", device_map, task="generate")

    measured = train(spec)

    check_placement(evidence, measured.details, dict(device_map))
    check_computed(evidence, spec, measured, reference(spec, "float64"), reference(spec, "float32"))
    evidence.check_equal("what moving it raises", measured.details["moves"], {"to": GUARD, "npu": GUARD})


@requirement("transformers/device-map-max-memory", level="core")
@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
def test_max_memory_of_the_card_is_kept(train, reference, evidence, family):
    """With max_memory below its size a model of any family offloads the rest, and gives the CPU's tokens."""
    spec = Placed("from_pretrained", "auto", max_memory=LITTLE, family=family, task="generate")

    measured = train(spec)

    details = measured.details
    assert set(details["map"].values()) >= {"0", "cpu"}
    check_placement(evidence, details, the_map(details))
    check_computed(evidence, spec, measured, reference(spec, "float64"), reference(spec, "float32"))


@requirement("transformers/device-map-dtype", level="core")
@pytest.mark.parametrize(
    "dtype", [pytest.param("float16", marks=pytest.mark.fp16), pytest.param("bfloat16", marks=pytest.mark.bf16)]
)
def test_half_precision_is_loaded_and_offloaded(train, reference, evidence, dtype):
    """A model loaded in half precision has it everywhere, and computes as exactly as the CPU in it."""
    spec = Placed("from_pretrained", CPU, dtype=dtype)

    measured = train(spec)

    evidence.check_equal("dtypes", measured.details["dtypes"], (f"torch.{dtype}",))
    check_placement(evidence, measured.details, dict(CPU))
    check_computed(evidence, spec, measured, reference(spec, "float64"), reference(spec, dtype))


@requirement("transformers/device-map-buffers", level="core")
def test_offloaded_buffers_come_back_for_each_pass(train, reference, evidence):
    """With offload_buffers running statistics leave the card with their weights, and the outputs are the CPU's."""
    device_map = (("resnet.embedder", 0), ("resnet.pooler", 0), ("resnet.encoder", "cpu"), ("classifier", 0))
    spec = Placed("from_pretrained", device_map, family="resnet", offload_buffers=True)

    measured = train(spec)

    check_placement(evidence, measured.details, dict(device_map), offload_buffers=True)
    check_computed(evidence, spec, measured, reference(spec, "float64"), reference(spec, "float32"))


@requirement("transformers/device-map-tied", level="core")
@pytest.mark.parametrize("family", ["gpt2", "t5", "gemma2"])
def test_tied_weights_are_loaded_once(train, reference, evidence, family):
    """Tied weights of a model loaded onto the card are one parameter there."""
    spec = Placed("from_pretrained", "auto", family=family)

    measured = train(spec)

    assert measured.details["tied"]
    check_placement(evidence, measured.details, the_map(measured.details))
    check_computed(evidence, spec, measured, reference(spec, "float64"), reference(spec, "float32"))


@requirement("transformers/move-again", level="core")
@pytest.mark.parametrize("device", [0, "npu", "npu:0"])
def test_a_model_is_moved_once_and_again(train, reference, evidence, device):
    """Moved to the card by number or name, and again, a model is there and computes what the CPU does."""
    spec = Placed("to twice", device)

    measured = train(spec)

    check_placement(evidence, measured.details, {"": 0})
    check_computed(evidence, spec, measured, reference(spec, "float64"), reference(spec, "float32"))


@requirement("transformers/load-again-on-a-full-card", level="core")
def test_a_card_with_room_for_one_loads_a_model_again(npu, probe, evidence):
    """On a card with room for one and a half models a model is loaded, given up, and loaded again."""
    probed = probe(LOAD_TWICE)

    evidence.add(output=probed.output[-2000:], **probed.facts)
    evidence.check_equal("exit code", probed.returncode, 0)
    size = probed.facts["size"]
    evidence.check_equal("devices", probed.facts["devices"], ["npu:0"])
    evidence.check_equal("weights are the saved ones", probed.facts["equal"], True)
    evidence.check_below("peak of the first, in models", probed.facts["peaks"][0] / size, 1.5, "all there is")
    assert probed.facts["peaks"][0] >= size
    evidence.check_below("left when given up, in models", probed.facts["left"] / size, 0.01, "1 %")


@requirement("transformers/offloaded-again", level="extended")
def test_the_same_model_offloaded_otherwise_gives_the_same_bits(train, evidence):
    """What is offloaded changes no bit of the outputs and no token."""
    specs = [Placed("from_pretrained", device_map, task="generate") for device_map in (CPU, DISK, BOTH)]
    specs.append(dataclasses.replace(specs[0], way="dispatch_model"))

    found = [train(spec).details for spec in specs]

    for other in found[1:]:
        evidence.check_equal("outputs", other["outputs"], found[0]["outputs"])
        evidence.check_equal("tokens", other["tokens"], found[0]["tokens"])

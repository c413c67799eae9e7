"""One training step of a tiny model of each architecture family: loss, outputs and every gradient."""

import dataclasses

import pytest

from fixtures.defects import additive_masks_in_sdpa, exact_gelu
from fixtures.model_families import FAMILIES
from fixtures.requirement import requirement, unsupported
from fixtures.workloads.model_step import ModelStep

pytestmark = [pytest.mark.single_npu]

# Each of these computes something that today's stack gets wrong, and has a requirement of its own.
OTHERS = ("whisper", "parakeet_ctc")

HALF = [pytest.param("float16", marks=pytest.mark.fp16), pytest.param("bfloat16", marks=pytest.mark.bf16)]


@requirement("transformers/model-step", level="core")
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in OTHERS])
def test_step_matches_the_cpu(train, reference, evidence, family):
    """Loss, outputs and every gradient of a model's first step are as close to the exact ones as the CPU's."""
    check_step(train, reference, evidence, ModelStep(family))


@exact_gelu(match="output encoder_last_hidden_state: max error")
@requirement("transformers/whisper-step", level="core")
def test_whisper_step_matches_the_cpu(train, reference, evidence):
    """A Whisper's first step, through the exact gelu of its convolutions, is as exact as the CPU's."""
    check_step(train, reference, evidence, ModelStep("whisper"))


@additive_masks_in_sdpa(match="loss: first relative difference")
@requirement("transformers/parakeet-step", level="core")
def test_parakeet_step_matches_the_cpu(train, reference, evidence):
    """A Parakeet's first step, with relative positions as a bias of the scores in sdpa, is as exact as the CPU's."""
    check_step(train, reference, evidence, ModelStep("parakeet_ctc"))


@requirement("transformers/model-step-eager-attention", level="core")
@pytest.mark.attention
@pytest.mark.parametrize("family", ["parakeet_ctc", "modern_bert", "mistral", "t5", "deepseek_v3"])
def test_step_with_eager_attention_matches_the_cpu(train, reference, evidence, family):
    """With eager attention a model's first step is as exact as the CPU's, whatever its positions and its window."""
    check_step(train, reference, evidence, ModelStep(family, attn="eager"))


@requirement("transformers/model-step-half-precision", level="core")
@pytest.mark.parametrize("family", ["qwen3", "mistral"])
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_step_matches_the_cpu(train, reference, evidence, family, dtype):
    """A step of a model with weights in half precision is as close to the exact one as the CPU's in that precision."""
    check_step(train, reference, evidence, ModelStep(family, dtype=dtype))


def check_step(train, reference, evidence, workload):
    """Everything that one step of a model gives conforms; UNSUPPORTED where transformers is older than the family."""
    if not FAMILIES[workload.family].in_this_release():
        unsupported(f"this transformers has no {FAMILIES[workload.family].configuration}")

    measured = train(workload)

    # Eager attention computes its softmax in float32 whatever it is given, which makes it no truth.
    truth = reference(dataclasses.replace(workload, attn=None), "float64")
    peer = reference(workload, workload.dtype)
    precision = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}[workload.dtype]
    evidence.check_equal("devices of the parameters", measured.parameter_devices, ("npu:0",))
    evidence.check_curve("loss", measured.losses, truth.losses, precision)
    outputs = measured.details["outputs"], truth.details["outputs"], peer.details["outputs"]
    evidence.check_tensors("output", *outputs, precision)
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients, precision)

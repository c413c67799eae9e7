"""One training step of a tiny model of each architecture family: loss, outputs and every gradient."""

import dataclasses

import pytest

from fixtures.model_families import FAMILIES
from fixtures.requirement import requirement, unsupported
from fixtures.step_checks import check_step
from fixtures.workloads.model_step import ModelStep

pytestmark = [pytest.mark.single_npu]

# Each of these computes something that today's stack gets wrong, and has a requirement of its own.
OTHERS = ("whisper", "parakeet_ctc")

HALF = [pytest.param("float16", marks=pytest.mark.fp16), pytest.param("bfloat16", marks=pytest.mark.bf16)]


@requirement("transformers/model-step", level="core")
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in OTHERS])
def test_step_matches_the_cpu(train, reference, evidence, family):
    """Loss, outputs and every gradient of a model's first step are as close to the exact ones as the CPU's."""
    require_step(train, reference, evidence, ModelStep(family))


@requirement("transformers/whisper-step", level="core")
def test_whisper_step_matches_the_cpu(train, reference, evidence):
    """A Whisper's first step, through the exact gelu of its convolutions, is as exact as the CPU's."""
    require_step(train, reference, evidence, ModelStep("whisper"))


@requirement("transformers/parakeet-step", level="core")
def test_parakeet_step_matches_the_cpu(train, reference, evidence):
    """A Parakeet's first step, with relative positions as a bias of the scores in sdpa, is as exact as the CPU's."""
    require_step(train, reference, evidence, ModelStep("parakeet_ctc"))


@requirement("transformers/model-step-eager-attention", level="core")
@pytest.mark.attention
@pytest.mark.parametrize("family", ["parakeet_ctc", "modern_bert", "mistral", "t5", "deepseek_v3"])
def test_step_with_eager_attention_matches_the_cpu(train, reference, evidence, family):
    """With eager attention a model's first step is as exact as the CPU's, whatever its positions and its window."""
    require_step(train, reference, evidence, ModelStep(family, attn="eager"))


@requirement("transformers/model-step-half-precision", level="core")
@pytest.mark.parametrize("family", ["qwen3", "mistral"])
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_step_matches_the_cpu(train, reference, evidence, family, dtype):
    """A step of a model with weights in half precision is as close to the exact one as the CPU's in that precision."""
    require_step(train, reference, evidence, ModelStep(family, dtype=dtype))


@requirement("transformers/model-step-flash-attention", level="core")
@pytest.mark.attention
@pytest.mark.fp16
@pytest.mark.parametrize("family", ["gpt2", "qwen2", "qwen3", "deepseek_v3", "vit"])
def test_step_with_flash_attention_matches_the_cpu(train, reference, evidence, family):
    """With flash attention a model's first float16 step is as close to the exact one as float16 on the CPU."""
    require_step(train, reference, evidence, ModelStep(family, attn="flash_attention_2", dtype="float16"))


def require_step(train, reference, evidence, workload):
    """One step of a model conforms; UNSUPPORTED where transformers is older than the family."""
    if not FAMILIES[workload.family].in_this_release():
        unsupported(f"this transformers has no {FAMILIES[workload.family].configuration}")

    measured = train(workload)

    # Eager attention computes its softmax in float32 whatever it is given, which makes it no truth. The CPU has no
    # flash attention.
    default = dataclasses.replace(workload, attn=None)
    truth = reference(default, "float64")
    peer = reference(workload if workload.attn == "eager" else default, workload.dtype)
    check_step(evidence, measured, truth, peer, workload.dtype)

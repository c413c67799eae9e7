"""Attention implementations and masks: eager, sdpa, and flash_attention_2 through torch_npu's fused operator.

Each test takes one training step of a tiny causal language model and compares loss, logits and every gradient.
"""

import dataclasses
import pickle
from pathlib import Path

import pytest

from fixtures import training
from fixtures.requirement import requirement
from fixtures.step_checks import check_step
from fixtures.workloads.attention_call import AttentionDropout, AttentionSinks
from fixtures.workloads.attention_step import AttentionStep
from fixtures.workloads.model_step import ModelStep

pytestmark = [pytest.mark.single_npu, pytest.mark.attention]

EAGER, SDPA = AttentionStep("eager"), AttentionStep("sdpa")
FLASH = AttentionStep("flash_attention_2", "float16")


def with_feature(step: AttentionStep):
    """A parameter with its name and the feature that its dtype is."""
    marks = {"float16": [pytest.mark.fp16], "bfloat16": [pytest.mark.bf16]}.get(step.dtype, [])
    return pytest.param(step, id=f"{step.attn.removesuffix('_attention_2')}-{step.dtype}", marks=marks)


IMPLEMENTATIONS = [with_feature(step) for step in (EAGER, SDPA, FLASH)]
FUSED = [with_feature(step) for step in (dataclasses.replace(SDPA, dtype="float16"), FLASH)]
ALL = [
    with_feature(dataclasses.replace(step, dtype=dtype))
    for step in (EAGER, SDPA, FLASH)
    for dtype in ("float32", "float16", "bfloat16")
    if (step.attn, dtype) != ("flash_attention_2", "float32")
]


@pytest.fixture
def require_step(train, reference, evidence):
    """require_step(workload): the step conforms. The truth is sdpa's, because eager attention computes its softmax in
    float32 whatever it is given; the CPU has no flash attention.
    """

    def require(step: AttentionStep):
        __tracebackhide__ = True
        measured = train(step)
        sdpa = dataclasses.replace(step, attn="sdpa")
        peer = reference(step if step.attn == "eager" else sdpa, step.dtype)
        # What sees itself alone is not moved by queries and keys: all of their gradients cancels.
        cancelled = 4.0 if step.length == 1 else None
        check_step(evidence, measured, reference(sdpa, "float64"), peer, step.dtype, cancelled)

    return require


@requirement("transformers/attention-step", level="core")
@pytest.mark.parametrize("step", ALL)
def test_step_matches_the_cpu(require_step, step):
    """Every attention implementation gives a causal model's step as exactly as the CPU in the same precision."""
    require_step(step)


@requirement("transformers/attention-padding", level="core")
@pytest.mark.parametrize("step", IMPLEMENTATIONS)
@pytest.mark.parametrize("padding", ["left", "right", "row"])
def test_padding_is_not_seen(require_step, step, padding):
    """Padding on the left, on the right, or of a whole sequence leaves the other tokens' step as the CPU's."""
    require_step(dataclasses.replace(step, padding=padding))


@requirement("transformers/attention-mask", level="core")
@pytest.mark.parametrize("step", [with_feature(EAGER), with_feature(SDPA)])
@pytest.mark.parametrize("mask", ["lowest", "infinite"])
def test_float_mask_hides_tokens(require_step, step, mask):
    """A mask of four dimensions that adds 0, or minus infinity or the lowest number, hides tokens as on the CPU."""
    require_step(dataclasses.replace(step, mask=mask))


@requirement("transformers/attention-bool-mask", level="core")
def test_bool_mask_hides_tokens(require_step):
    """A mask of four dimensions that is true where a token is seen hides the others from sdpa as on the CPU."""
    require_step(dataclasses.replace(SDPA, mask="bool"))


@requirement("transformers/attention-bias-eager", level="core")
def test_bias_is_added_by_eager_attention(require_step):
    """A mask that lowers scores with the distance of the tokens is added to them by eager attention."""
    require_step(dataclasses.replace(EAGER, mask="bias"))


@requirement("transformers/attention-bias-sdpa", level="core")
def test_bias_is_added_by_sdpa(require_step):
    """A mask that lowers scores with the distance of the tokens is added to them by sdpa attention."""
    require_step(dataclasses.replace(SDPA, mask="bias"))


@requirement("transformers/attention-bias-beside-an-npu", level="extended")
@pytest.mark.host
def test_bias_is_added_on_the_cpu_beside_an_npu(npu, reference, evidence):
    """A model on the CPU computes in a process that sees an NPU what it computes in one that sees none."""
    step = dataclasses.replace(SDPA, mask="bias")

    measured = training.run(step, "cpu")

    truth, peer = reference(step, "float64"), reference(step, "float32")
    evidence.check_curve("loss", measured.losses, truth.losses)
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)


@requirement("transformers/attention-packed", level="core")
@pytest.mark.parametrize("step", IMPLEMENTATIONS)
def test_packed_sequences_do_not_see_each_other(require_step, step):
    """Several sequences in one row, told apart by their position ids, give the CPU's step."""
    require_step(dataclasses.replace(step, packed=True, batch=1))


@requirement("transformers/attention-cache", level="core")
@pytest.mark.parametrize("step", IMPLEMENTATIONS)
@pytest.mark.parametrize("cached", [9, 23])
def test_tokens_after_a_cache_see_all_of_it(require_step, step, cached):
    """Several tokens, or a single one, after others that are in the cache see these and their own predecessors."""
    require_step(dataclasses.replace(step, cached=cached))


@requirement("transformers/attention-window", level="core")
@pytest.mark.parametrize("step", [with_feature(EAGER), with_feature(SDPA)])
@pytest.mark.parametrize("cached", [0, 9])
def test_window_hides_distant_tokens(require_step, step, cached):
    """A sliding window hides the tokens before it, also those in the cache, as on the CPU."""
    require_step(dataclasses.replace(step, window=7, cached=cached))


@requirement("transformers/flash-attention-window", level="core")
@pytest.mark.fp16
@pytest.mark.parametrize("cached", [0, 9])
def test_window_hides_distant_tokens_from_flash_attention(require_step, cached):
    """A sliding window hides the tokens before it from flash attention, or the model refuses to be made."""
    require_step(dataclasses.replace(FLASH, window=7, cached=cached))


@requirement("transformers/flash-attention-sinks", level="extended")
@pytest.mark.fp16
def test_sinks_take_their_share_from_flash_attention(train, reference, evidence):
    """The sinks that a model passes to flash attention take their share of it."""
    workload = AttentionSinks()

    measured = train(workload)

    truth, peer = reference(workload, "float64"), reference(workload, "float16")
    evidence.check_tensor("output", measured.details["output"], truth.details["output"], peer.details["output"])


@requirement("transformers/flash-attention-softcap", level="extended")
@pytest.mark.fp16
def test_flash_attention_refuses_a_softcap(train):
    """A model that caps its attention scores says that flash attention cannot, instead of leaving them uncapped."""
    with pytest.raises(ValueError, match="does not support `softcap`"):
        train(ModelStep("gemma2", attn="flash_attention_2", dtype="float16"))


@requirement("transformers/attention-grouping", level="core")
@pytest.mark.parametrize("step", IMPLEMENTATIONS)
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_query_heads_share_keys_and_values(require_step, step, kv_heads):
    """Four query heads with one key-value head, or with one each, give the CPU's step, with padding in the batch."""
    require_step(dataclasses.replace(step, kv_heads=kv_heads, padding="right"))


@requirement("transformers/attention-head-dim", level="core")
@pytest.mark.parametrize("step", FUSED)
@pytest.mark.parametrize("head_dim", [40, 64, 80, 96, 128, 200, 256])
def test_head_dimensions(require_step, step, head_dim):
    """Heads of every size up to 256 dimensions give the CPU's step, powers of two or not."""
    require_step(dataclasses.replace(step, head_dim=head_dim, layers=1, batch=2))


@requirement("transformers/attention-length", level="core")
@pytest.mark.parametrize("step", FUSED)
@pytest.mark.parametrize("length", [1, 511, 512, 513, 2049])
def test_lengths(require_step, step, length):
    """Sequences of one token, around a multiple of a block, and longer than the causal mask give the CPU's step."""
    require_step(dataclasses.replace(step, length=length, heads=2, kv_heads=1, layers=1, batch=1))


@requirement("transformers/attention-dropout", level="core")
@pytest.mark.fp16
@pytest.mark.parametrize("attn", ["sdpa", "flash_attention_2"])
def test_dropout_in_attention(train, evidence, attn):
    """Dropout takes its share of the attention weights, scales the others, and depends on the seed alone."""
    workload = AttentionDropout(attn)

    found = train(workload).details

    weights, kept = found["weights"], found["weights"] != 0
    share, expected = kept.double().mean().item(), 1 - workload.dropout
    deviation = (expected * workload.dropout / kept.numel()) ** 0.5
    evidence.check_below("share of kept weights, less what it is to be", abs(share - expected), 5 * deviation, BINOMIAL)
    exact = kept.double() / (workload.length * expected)
    evidence.check_tensor("weights", weights, exact, exact.to(weights.dtype))
    evidence.check_equal("weights with the same seed", found["weights again"], weights)
    assert not found["weights of another seed"].equal(weights)
    total = exact.sum(1)  # what a value's gradient adds up over the queries
    evidence.check_tensor("gradient", found["weights in the gradient"], total, total.to(weights.dtype))


BINOMIAL = "five standard deviations of the binomial distribution"

TOP_LEFT = """
import os, pickle, sys
import torch, torch_npu
os.environ["NPU_FA2_SPARSE_MODE"] = "1"
try:
    import transformers.integrations.npu_flash_attention
except ValueError as error:
    report(refused=str(error))
os.environ["NPU_FA2_SPARSE_MODE"] = "2"
from fixtures.training import run
from transformers.integrations import npu_flash_attention
report(mode=npu_flash_attention.SPARSE_MODE)
with open("steps", "rb") as file:
    steps = pickle.load(file)
with open("measured", "wb") as file:
    pickle.dump([run(step, "npu") for step in steps], file)
"""


@requirement("transformers/flash-attention-top-left", level="extended")
@pytest.mark.fp16
def test_causal_mask_aligned_at_the_top_left(npu, probe, tmp_path, reference, evidence):
    """With NPU_FA2_SPARSE_MODE=2 whole sequences and single tokens after a cache give the CPU's step; 1 is refused."""
    steps = [FLASH, dataclasses.replace(FLASH, padding="left"), dataclasses.replace(FLASH, cached=23)]
    (tmp_path / "steps").write_bytes(pickle.dumps(steps))

    probed = probe(TOP_LEFT, PYTHONPATH=str(Path(training.__file__).parents[1]))

    assert probed.returncode == 0, probed.output
    evidence.check_equal("mode", probed.facts["mode"], 2)
    assert "NPU_FA2_SPARSE_MODE" in probed.facts["refused"]
    for step, measured in zip(steps, pickle.loads((tmp_path / "measured").read_bytes()), strict=True):
        sdpa = dataclasses.replace(step, attn="sdpa")
        check_step(evidence, measured, reference(sdpa, "float64"), reference(sdpa, "float16"), "float16")

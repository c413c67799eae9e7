"""A second model family on one card: Llama with grouped-query attention, trained by the Trainer and generated from."""

import dataclasses

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.causal_lm import CausalLM, Generation

pytestmark = [pytest.mark.single_npu]

LLAMA = CausalLM()
FIRST_STEP = CausalLM(steps=1, max_grad_norm=1e9)  # clipping would hide a loss gradient of the wrong size

PRECISIONS = ["fp32", pytest.param("fp16", marks=pytest.mark.fp16), pytest.param("bf16", marks=pytest.mark.bf16)]
PEER = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@requirement("transformers/llama-first-gradients", level="core")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_first_gradients_match_the_cpu(train, reference, evidence, precision):
    """Every gradient of a Llama's first step is as close to the exact one as the CPU's in the same precision."""
    measured = train(dataclasses.replace(FIRST_STEP, precision=precision))

    truth, peer = reference(FIRST_STEP, "float64"), reference(FIRST_STEP, PEER[precision])
    evidence.check_equal("devices of the parameters", measured.parameter_devices, ("npu:0",))
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients, precision)


@requirement("transformers/llama-loss-curve", level="core")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_loss_curve_matches_the_cpu(train, reference, evidence, precision):
    """A Llama's training loss on the card falls along the exact loss curve."""
    measured = train(dataclasses.replace(LLAMA, precision=precision))

    assert measured.losses[-1] < 0.7 * measured.losses[0]
    evidence.check_curve("training loss", measured.losses, reference(LLAMA, "float64").losses, precision)


@requirement("transformers/llama-weights", level="core")
def test_weights_match_the_cpu(train, reference, evidence):
    """A Llama's weights after several steps of gradient descent are as close to the exact ones as the CPU's."""
    workload = CausalLM(optim="sgd", lr=0.1, steps=6)

    measured = train(workload)

    truth, peer = reference(workload, "float64"), reference(workload, "float32")
    evidence.check_tensors("weight", measured.final_weights, truth.final_weights, peer.final_weights)


@requirement("transformers/llama-gradient-accumulation", level="core")
def test_accumulated_micro_batches_equal_one_batch(train, reference, evidence):
    """Four accumulated micro batches of texts of different lengths give the gradients and loss of one large batch."""
    accumulated = dataclasses.replace(FIRST_STEP, batch=4, gradient_accumulation=4)

    measured = train(accumulated)

    truth, peer = reference(FIRST_STEP, "float64"), reference(FIRST_STEP, "float32")
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)
    evidence.check_curve("training loss", measured.losses, truth.losses)


@requirement("transformers/llama-gradient-checkpointing", level="core")
def test_gradient_checkpointing_changes_no_gradient(train, reference, evidence):
    """Recomputing a Llama's activations in the backward pass gives gradients as close to the exact ones."""
    measured = train(dataclasses.replace(FIRST_STEP, gradient_checkpointing=True))

    truth, peer = reference(FIRST_STEP, "float64"), reference(FIRST_STEP, "float32")
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)


@requirement("transformers/generate", level="core")
@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_generated_tokens_match_the_cpu(train, reference, evidence, attn):
    """Greedy and beam search after prompts of different lengths give the CPU's tokens, from logits as exact."""
    workload = Generation(attn=attn)

    measured = train(workload)

    truth, peer = reference(Generation(), "float64"), reference(workload, "float32")
    evidence.check_equal("devices of the parameters", measured.parameter_devices, ("npu:0",))
    evidence.check_tensor("logits", measured.details["logits"], truth.details["logits"], peer.details["logits"])
    evidence.check_equal("greedy tokens", measured.details["greedy"], truth.details["greedy"])
    evidence.check_equal("beam tokens", measured.details["beam"], truth.details["beam"])


@requirement("transformers/generate-sampling", level="core")
def test_sampling_is_determined_by_the_seed(train, evidence):
    """Sampling on the card gives the same tokens for the same seed, and others than greedy search."""
    measured = train(Generation())

    evidence.check_equal("sampled tokens", measured.details["sampled again"], measured.details["sampled"])
    assert measured.details["sampled"].tolist() != measured.details["greedy"].tolist()


@pytest.mark.fp16
@requirement("transformers/generate-fp16-logits", level="core")
def test_half_precision_logits_match_the_cpu(train, reference, evidence):
    """The logits of a Llama with float16 weights are as close to the exact ones as float16 on the CPU."""
    workload = Generation(dtype="float16", new_tokens=2)

    measured = train(workload)

    truth, peer = reference(workload, "float64"), reference(workload, "float16")
    evidence.check_tensor("logits", measured.details["logits"], truth.details["logits"], peer.details["logits"])

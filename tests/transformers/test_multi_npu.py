"""The Trainer on several cards of one machine: data parallel under the training guide's launchers."""

import dataclasses

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.accelerate_ranks import BERT, under
from fixtures.workloads.causal_lm import CausalLM

pytestmark = pytest.mark.multi_npu

LLAMA = CausalLM(steps=10, max_grad_norm=1e9)  # clipping would hide a gradient of the wrong size
ACCUMULATED = dataclasses.replace(LLAMA, batch=4, gradient_accumulation=4, steps=5)
CHECKPOINTED = dataclasses.replace(LLAMA, gradient_checkpointing=True, steps=5)
CLIPPED = dataclasses.replace(LLAMA, max_grad_norm=1.0)
FP16, BF16 = (dataclasses.replace(LLAMA, precision=precision) for precision in ("fp16", "bf16"))
# Without clipping nothing looks at the gradients between the overflow and the scaler.
OVERFLOW = dataclasses.replace(FP16, steps=4, max_grad_norm=0.0, poison_gradient_at_step=1, poison_rank=1)
TOGETHER = (LLAMA, ACCUMULATED, CHECKPOINTED, CLIPPED, FP16, BF16, OVERFLOW)
WORLD_SIZES = [2, 4]


@requirement("transformers/ddp-launchers", level="core")
@pytest.mark.parametrize("launcher", ["torchrun", "torch.distributed.launch", "accelerate"])
def test_every_launcher_trains_data_parallel(ranks, evidence, reference, launcher):
    """Under each launcher two ranks, a card each, end with equal weights and follow the loss curve of one process."""
    measured = ranks(BERT, 2, launcher=launcher, together=() if launcher == "torchrun" else under(launcher))

    evidence.check_curve("training loss", measured[0].losses, reference(BERT, "float64").losses, precision="fp32")
    assert [m.parameter_devices for m in measured] == [("npu:0",), ("npu:1",)]


@requirement("transformers/ddp-first-step", level="core")
@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_first_step_gradients_are_those_of_one_process(ranks, reference, evidence, world_size):
    """Every gradient of the first step, averaged over the ranks, is as exact as that of one process on the CPU."""
    measured = ranks(LLAMA, world_size, together=TOGETHER if world_size == 2 else ())

    truth, peer = reference(LLAMA, "float64"), reference(LLAMA, "float32")
    for result in measured:
        evidence.check_gradients(result.gradients, truth.gradients, peer.gradients)


@requirement("transformers/ddp-training", level="core")
@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_training_follows_one_process(ranks, reference, evidence, world_size):
    """Several ranks follow the loss curve and the gradient norms of one process with the same global batch."""
    measured = ranks(LLAMA, world_size, together=TOGETHER if world_size == 2 else ())[0]

    truth = reference(LLAMA, "float64")
    evidence.check_curve("training loss", measured.losses, truth.losses)
    evidence.check_curve("gradient norm", measured.gradient_norms, truth.gradient_norms)


@requirement("transformers/ddp-clipping", level="core")
def test_clipping_over_ranks(ranks, reference, evidence):
    """Gradients that are clipped on two ranks, by their norm over the whole batch, are those of one process."""
    measured = ranks(CLIPPED, 2, together=TOGETHER)

    truth, peer = reference(CLIPPED, "float64"), reference(CLIPPED, "float32")
    evidence.check_equal("clipped by the reference", truth.gradient_norms[0] > CLIPPED.max_grad_norm, True)
    for result in measured:
        evidence.check_gradients(result.gradients, truth.gradients, peer.gradients)
    evidence.check_curve("training loss", measured[0].losses, truth.losses)


@requirement("transformers/ddp-accumulation", level="core")
def test_accumulation_over_ranks(ranks, reference, evidence):
    """Gradients accumulated over micro batches on two ranks are as exact as those of one process on the CPU."""
    measured = ranks(ACCUMULATED, 2, together=TOGETHER)

    truth, peer = reference(ACCUMULATED, "float64"), reference(ACCUMULATED, "float32")
    for result in measured:
        evidence.check_gradients(result.gradients, truth.gradients, peer.gradients)
    evidence.check_curve("training loss", measured[0].losses, truth.losses)


@requirement("transformers/ddp-checkpointing", level="extended")
def test_gradient_checkpointing_over_ranks(ranks, reference, evidence):
    """With gradient checkpointing two ranks have gradients as exact as those of one process without it."""
    measured = ranks(CHECKPOINTED, 2, together=TOGETHER)

    truth, peer = reference(CHECKPOINTED, "float64"), reference(CHECKPOINTED, "float32")
    evidence.check_gradients(measured[0].gradients, truth.gradients, peer.gradients)


@requirement("transformers/ddp-mixed-precision", level="core")
@pytest.mark.parametrize(
    "workload", [pytest.param(FP16, marks=pytest.mark.fp16), pytest.param(BF16, marks=pytest.mark.bf16)],
    ids=["fp16", "bf16"],
)  # fmt: skip
def test_mixed_precision_over_ranks(ranks, reference, evidence, workload):
    """In mixed precision two ranks have gradients as close to the exact ones as one process, follow the exact loss
    curve, and skip no step.
    """
    measured = ranks(workload, 2, together=TOGETHER)

    half = {"fp16": "float16", "bf16": "bfloat16"}[workload.precision]
    truth, peer = reference(workload, "float64"), reference(workload, half)
    for result in measured:
        evidence.check_equal("skipped steps", result.skipped_steps, ())
        evidence.check_gradients(result.gradients, truth.gradients, peer.gradients, precision=workload.precision)
    evidence.check_curve("training loss", measured[0].losses, truth.losses, precision=workload.precision)


@pytest.mark.fp16
@requirement("transformers/ddp-overflow-on-one-rank", level="core")
def test_an_overflow_on_one_rank_skips_the_step_on_all(ranks, evidence):
    """When gradients overflow on one rank only, every rank skips that step and halves its loss scale."""
    measured = ranks(OVERFLOW, 2, together=TOGETHER)

    for result in measured:
        scale = result.loss_scales[0]
        evidence.check_equal("skipped steps", result.skipped_steps, (1,))
        evidence.check_equal("loss scales", result.loss_scales, (scale, scale / 2, scale / 2, scale / 2))

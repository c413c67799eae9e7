"""DeepSpeed's ZeRO under accelerate on several cards."""

import dataclasses

import pytest

from fixtures.requirement import requirement, unsupported
from fixtures.workloads import zero
from fixtures.workloads.accelerate_ranks import ZERO, under
from fixtures.workloads.zero import Zero

pytestmark = [pytest.mark.deepspeed, pytest.mark.multi_npu]

STAGES = [0, 1, 2, 3]
FULL = tuple(Zero(stage=stage) for stage in STAGES)
BF16 = tuple(Zero(stage=stage, precision="bf16") for stage in STAGES[1:])
OVERLAPPED = tuple(Zero(stage=stage, overlap_comm=True) for stage in (2, 3))
PLAIN = Zero(stage=0, precision="bf16")
FIRST = dataclasses.replace(PLAIN, steps=1)
FP16 = tuple(Zero(stage=stage, precision="fp16") for stage in STAGES[1:])
STATIC = tuple(dataclasses.replace(spec, loss_scale=256.0) for spec in FP16)
# With it on rank 1 alone.
OVERFLOWING = tuple(dataclasses.replace(spec, overflow_at_step=2) for spec in (*FP16, *STATIC[1:]))
OFFLOADED = tuple(Zero(stage=stage, offload=True) for stage in (2, 3))
SAVED = Zero(stage=2, precision="bf16", checkpoint=True), Zero(stage=3, precision="bf16", checkpoint=True)
ADAMW, ADAM = Zero(optimizer="AdamW"), Zero(optimizer="Adam")
# Several batches: a rank that fails takes what is behind it along.
BATCHES = (FULL + OVERLAPPED + (ADAMW, ADAM), (*BF16, PLAIN, FIRST), SAVED, FP16 + STATIC + OVERFLOWING, OFFLOADED)


@pytest.fixture
def trained(ranks):
    """trained(spec, **how) -> what each of two ranks measured, started together with its batch."""
    if not zero.installed():
        unsupported("deepspeed is not installed: pip install deepspeed")

    def measure(spec, **how):
        together = next((batch for batch in BATCHES if spec in batch), ())
        return ranks(spec, 2, **{"together": together, **how})

    return measure


def stages(specs, *marks):
    """Parameters of a test, by the stage of ZeRO."""
    return pytest.mark.parametrize("spec", [pytest.param(spec, id=f"zero{spec.stage}", marks=marks) for spec in specs])


@requirement("accelerate/deepspeed-gradients", level="core")
@stages(FULL)
def test_first_gradients_are_those_of_one_process(trained, evidence, reference, spec):
    """Under ZeRO every gradient of the first step is as exact as that of one process with the global batch."""
    for result in trained(spec):
        evidence.check_equal("gradients", sorted(result.gradients), sorted(result.final_weights))
        evidence.check_gradients(
            result.gradients, reference(spec, "float64").gradients, reference(spec, "float32").gradients
        )


@requirement("accelerate/deepspeed-training", level="core")
@stages(FULL)
def test_training_follows_one_process(trained, evidence, reference, spec):
    """Under ZeRO two ranks follow the losses and gradient norms, and end with the weights, of one process."""
    measured, truth = trained(spec)[0], reference(spec, "float64")

    evidence.check_curve("training loss", measured.losses, truth.losses)
    if spec.stage:  # without ZeRO, DeepSpeed tells no norm of float32 gradients, on any device
        evidence.check_curve("gradient norm", measured.gradient_norms, truth.gradient_norms)
    evidence.check_tensors(
        "weight", measured.final_weights, truth.final_weights, reference(spec, "float32").final_weights
    )


@pytest.mark.bf16
@requirement("accelerate/deepspeed-mixed-precision", level="core")
@stages(BF16)
def test_mixed_precision_follows_one_process(trained, evidence, reference, spec):
    """In bf16 ZeRO skips no step and follows the exact losses of one process."""
    measured = trained(spec)[0]

    evidence.check_equal("skipped steps", measured.skipped_steps, ())
    truth, peer = reference(spec, "float64"), reference(spec, "bfloat16")
    evidence.check_curve("training loss", measured.losses, truth.losses, precision=spec.precision)
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients, precision=spec.precision)


@pytest.mark.bf16
@requirement("accelerate/deepspeed-first-update-without-zero", level="extended")
def test_the_first_update_without_zero_is_that_of_adamw(trained, evidence):
    """Without ZeRO, in bf16, DeepSpeed's first step moves weights by the learning rate, as Adam's first step does."""
    measured = trained(FIRST)[0]

    before = measured.initial_weights
    moved = [(weight - before[name]).abs().flatten() for name, weight in measured.final_weights.items()]
    sizes = sorted(size for tensor in moved for size in tensor.tolist())
    median = sizes[len(sizes) // 2] / FIRST.lr
    evidence.add(median=median)
    evidence.check_below("median update, less 1 learning rate", abs(median - 1), 0.05, "bf16 weights of 0.02")


@pytest.mark.bf16
@requirement("accelerate/deepspeed-without-zero", level="extended")
def test_training_without_zero_follows_one_process(trained, evidence, reference):
    """Without ZeRO, in bf16, DeepSpeed follows one process that also begins with a step without gradients."""
    alike = dataclasses.replace(PLAIN, empty_step=True)
    measured, truth, peer = trained(PLAIN)[0], reference(alike, "float64"), reference(alike, "bfloat16")

    evidence.check_curve("training loss", measured.losses, truth.losses, precision="bf16")
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients, precision="bf16")


@pytest.mark.fp16
@requirement("accelerate/deepspeed-fp16", level="core")
@stages(FP16)
@pytest.mark.parametrize("scale", ["dynamic", "static"])
def test_fp16_follows_one_process(trained, evidence, reference, spec, scale):
    """In fp16, with a dynamic or a static loss scale, ZeRO skips no step and follows the losses of one process."""
    spec = STATIC[spec.stage - 1] if scale == "static" else spec
    measured = trained(spec)[0]

    evidence.check_equal("skipped steps", measured.skipped_steps, ())
    expected = spec.loss_scale or 2.0**zero.INITIAL_SCALE_POWER
    evidence.check_equal("loss scales", measured.loss_scales, (expected,) * spec.steps)
    truth, peer = reference(spec, "float64"), reference(spec, "float16")
    evidence.check_curve("training loss", measured.losses, truth.losses, precision="fp16")
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients, precision="fp16")


@pytest.mark.fp16
@requirement("accelerate/deepspeed-overflow-on-one-rank", level="core")
@pytest.mark.parametrize(
    "spec", OVERFLOWING, ids=lambda spec: f"zero{spec.stage}-{'static' if spec.loss_scale else 'dynamic'}"
)
def test_an_overflow_on_one_rank_skips_the_step_on_all(trained, evidence, reference, spec):
    """An overflow on one rank skips that step on all, halves a dynamic loss scale, and is forgotten."""
    measured = trained(spec)

    scale = spec.loss_scale or 2.0**zero.INITIAL_SCALE_POWER
    after = scale if spec.loss_scale else scale / 2
    for result in measured:
        evidence.check_equal("skipped steps", result.skipped_steps, (spec.overflow_at_step,))
        expected = (scale,) * spec.overflow_at_step + (after,) * (spec.steps - spec.overflow_at_step)
        evidence.check_equal("loss scales", result.loss_scales, expected)
    evidence.check_curve("training loss", measured[0].losses, reference(spec, "float64").losses, precision="fp16")


@requirement("accelerate/deepspeed-offload", level="core")
@stages(OFFLOADED)
def test_offloaded_state_changes_no_number(trained, evidence, reference, spec):
    """With optimizer state (in ZeRO-3 parameters, too) in host memory ZeRO ends with the weights of one process."""
    for result in trained(spec):
        evidence.check_equal("devices of the moments", result.details["optimizer devices"], ("cpu",))
        truth, peer = reference(spec, "float64"), reference(spec, "float32")
        evidence.check_curve("training loss", result.losses, truth.losses)
        evidence.check_tensors("weight", result.final_weights, truth.final_weights, peer.final_weights)


@pytest.mark.cli
@requirement("accelerate/deepspeed-launcher", level="core")
def test_the_deepspeed_command_trains(trained, evidence, reference):
    """Started by the deepspeed command on two cards that it is told, ZeRO-3 follows one process."""
    measured, truth = trained(ZERO, launcher="deepspeed", together=under("deepspeed")), reference(ZERO, "float64")

    for rank, result in enumerate(measured):
        evidence.check_equal("device", result.parameter_devices, (f"npu:{rank}",))
        evidence.check_equal("backend", result.details["backend"], "hccl")
    evidence.check_curve("training loss", measured[0].losses, truth.losses)


@requirement("accelerate/deepspeed-overlap", level="extended")
@stages(OVERLAPPED)
def test_overlapped_reduction_changes_nothing(trained, evidence, reference, spec):
    """Reducing gradients during the backward pass gives ZeRO exactly the losses and weights of reducing them after,
    and the gradients of one process.
    """
    measured = trained(spec)[0]

    truth, peer = reference(spec, "float64"), reference(spec, "float32")
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)
    behind = trained(dataclasses.replace(spec, overlap_comm=False))[0]
    evidence.check_equal("losses", measured.losses, behind.losses)
    evidence.check_equal("weights", measured.final_weights, behind.final_weights)


@requirement("accelerate/deepspeed-fused-adamw", level="core")
def test_fused_adamw_is_that_of_torch(trained, evidence, reference):
    """DeepSpeed's own fused AdamW for the NPU ends with the weights of torch's AdamW."""
    measured, truth = trained(ADAMW)[0], reference(ADAMW, "float64")

    evidence.check_equal("optimizer", measured.details["optimizer"], "FusedAdam")
    evidence.check_curve("training loss", measured.losses, truth.losses)
    evidence.check_tensors(
        "weight", measured.final_weights, truth.final_weights, reference(ADAMW, "float32").final_weights
    )


@requirement("accelerate/deepspeed-fused-adam", level="extended")
def test_fused_adam_is_that_of_torch(trained, evidence, reference):
    """DeepSpeed's own fused Adam for the NPU, without decoupled weight decay, ends with the weights of torch's Adam."""
    measured, truth = trained(ADAM)[0], reference(ADAM, "float64")

    evidence.check_equal("optimizer", measured.details["optimizer"], "FusedAdam")
    evidence.check_curve("training loss", measured.losses, truth.losses)
    evidence.check_tensors(
        "weight", measured.final_weights, truth.final_weights, reference(ADAM, "float32").final_weights
    )


@pytest.mark.checkpoint
@requirement("accelerate/deepspeed-saved-weights", level="core")
@stages(SAVED)
def test_saved_weights_are_the_weights(trained, evidence, spec):
    """The 16-bit weights of ZeRO and what zero_to_fp32 puts together are, loaded on the CPU, exactly the weights."""
    details = trained(spec)[0].details

    weights = details["weights when saved"]
    evidence.check_equal("zero_to_fp32", details["zero_to_fp32"], weights)
    evidence.check_equal("16-bit", details["saved 16-bit"], {name: w.bfloat16() for name, w in weights.items()})


@pytest.mark.checkpoint
@requirement("accelerate/deepspeed-resume", level="core")
@stages(SAVED)
def test_resumed_training_is_the_uninterrupted_one(trained, evidence, spec):
    """Training that goes on from a saved state of ZeRO repeats the losses and the weights exactly."""
    measured = trained(spec)[0]

    details, half = measured.details, spec.steps // 2
    evidence.check_equal("reloaded weights", details["reloaded weights"], details["weights when saved"])
    evidence.check_equal("losses", details["resumed losses"], measured.losses[half:])
    evidence.check_equal("weights", details["resumed weights"], measured.final_weights)

"""Mixed precision in float16: accuracy, dynamic loss scaling, and every way in which overflow must be noticed."""

import dataclasses

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.sequence_classification import SequenceClassification

pytestmark = [pytest.mark.single_npu, pytest.mark.fp16]

BERT = SequenceClassification(precision="fp16")
FIRST_STEP = SequenceClassification(precision="fp16", steps=1, evaluate=False, max_grad_norm=1e9)


@requirement("transformers/fp16-first-gradients", level="core")
def test_first_gradients_match_the_cpu(train, reference, evidence):
    """Every unscaled gradient of the first float16 step is as close to the exact one as float16 on the CPU."""
    measured = train(FIRST_STEP)

    truth, peer = reference(FIRST_STEP, "float64"), reference(FIRST_STEP, "float16")
    evidence.add(loss_scales=measured.loss_scales)
    evidence.check_equal("skipped steps", measured.skipped_steps, ())
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients, precision="fp16")


@requirement("transformers/fp16-loss-curve", level="core")
def test_loss_curve_matches_float32(train, reference, evidence):
    """Training in float16 follows the exact loss curve, on the card, without skipping a step."""
    measured = train(BERT)

    evidence.check_equal("devices of the parameters", measured.parameter_devices, ("npu:0",))
    evidence.check_equal("skipped steps", measured.skipped_steps, ())
    evidence.check_curve("training loss", measured.losses, reference(BERT, "float64").losses, precision="fp16")


@requirement("transformers/fp16-learns", level="core")
def test_trainer_learns_in_float16(train, evidence):
    """Fine-tuning in float16 lowers the loss and finds nine labels of ten or more."""
    measured = train(dataclasses.replace(BERT, steps=60))

    evidence.add(losses=measured.losses, metrics=measured.metrics)
    assert sum(measured.losses[-5:]) < 0.5 * sum(measured.losses[:5])
    assert measured.metrics["eval_accuracy"] > 0.9


@requirement("transformers/fp16-default-optimizer", level="core")
def test_default_optimizer_trains_in_float16(train, reference, evidence):
    """The Trainer with fp16 and its default optimizer follows the exact loss curve."""
    workload = dataclasses.replace(BERT, optim=None)

    measured = train(workload)

    evidence.check_curve("training loss", measured.losses, reference(BERT, "float64").losses, precision="fp16")


@requirement("transformers/fp16-overflow-skips-step", level="core")
def test_overflow_skips_the_step(train, evidence):
    """When float16 gradients overflow, the step is skipped, every weight stays as it was, and the loss scale halves."""
    measured = train(dataclasses.replace(FIRST_STEP, poison_gradient_at_step=0))
    undisturbed = train(FIRST_STEP)

    evidence.add(loss_scales=measured.loss_scales, undisturbed_loss_scales=undisturbed.loss_scales)
    evidence.check_equal("skipped steps", measured.skipped_steps, (0,))
    evidence.check_equal("weights", measured.final_weights, measured.initial_weights)
    evidence.check_equal("loss scale", measured.loss_scales, (undisturbed.loss_scales[0] / 2,))
    assert undisturbed.skipped_steps == ()


@requirement("transformers/fp16-overflow-recovers", level="core")
def test_training_goes_on_after_an_overflow(train, evidence):
    """After one overflow only that step is skipped, and training goes on as if it had never been asked for."""
    workload = SequenceClassification(
        precision="fp16", optim="sgd", lr=0.05, steps=8, poison_gradient_at_step=3, evaluate=False
    )

    measured = train(workload)
    undisturbed = train(dataclasses.replace(workload, poison_gradient_at_step=None))

    evidence.add(loss_scales=measured.loss_scales)
    evidence.check_equal("skipped steps", measured.skipped_steps, (3,))
    scale = undisturbed.loss_scales[0]
    evidence.check_equal("loss scales", measured.loss_scales, (scale,) * 3 + (scale / 2,) * 5)
    evidence.check_equal("losses until the overflow", measured.losses[:4], undisturbed.losses[:4])
    # The weights of step 4 are those of step 3, so the loss of the next batch is the loss of those weights.
    assert measured.losses[4:] != undisturbed.losses[4:]
    assert all(abs(a - b) < 0.1 for a, b in zip(measured.losses, undisturbed.losses, strict=True))


@requirement("transformers/fp16-loss-scale-grows", level="core")
def test_loss_scale_grows_back(train, evidence):
    """After growth_interval steps without overflow the loss scale doubles, counted anew from an overflow."""
    workload = SequenceClassification(
        precision="fp16", steps=8, growth_interval=2, poison_gradient_at_step=2, evaluate=False
    )

    measured = train(workload)

    start = measured.loss_scales[0]
    evidence.add(loss_scales=measured.loss_scales)
    evidence.check_equal("skipped steps", measured.skipped_steps, (2,))
    evidence.check_equal("loss scales", measured.loss_scales, tuple(start * f for f in (1, 2, 1, 1, 2, 2, 4, 4)))


@requirement("transformers/fp16-overflow-anywhere", level="core")
@pytest.mark.parametrize("number", [1, 250, 251], ids="tensor{}".format)
def test_overflow_in_any_tensor_is_noticed(train, evidence, number):
    """An overflow in the first, the 250th or the 251st gradient of a model skips the step."""
    # torch_npu looks for overflow in chunks of 250 tensors.
    deep = SequenceClassification(precision="fp16", hidden=32, layers=16, steps=1, evaluate=False)

    measured = train(dataclasses.replace(deep, poison_gradient_at_step=0, poison_parameter=number - 1))

    evidence.add(tensors=len(measured.gradients), loss_scales=measured.loss_scales)
    assert len(measured.initial_weights) > 251
    evidence.check_equal("skipped steps", measured.skipped_steps, (0,))
    evidence.check_equal("weights", measured.final_weights, measured.initial_weights)

"""A training loop with accelerate on one card: its numbers, and saving and loading its state."""

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.accelerate_loop import AccelerateLoop

pytestmark = [pytest.mark.single_npu]

PRECISIONS = ["no", pytest.param("fp16", marks=pytest.mark.fp16), pytest.param("bf16", marks=pytest.mark.bf16)]


@requirement("accelerate/loop-matches-the-cpu", level="core")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_losses_match_the_cpu(train, reference, evidence, precision):
    """A loop with Accelerator, clipping and a scheduler follows the exact loss curve on the card in each precision."""
    measured = train(AccelerateLoop(precision=precision))

    truth = reference(AccelerateLoop(), "float64")
    policy = "fp32" if precision == "no" else precision
    evidence.add(loss_scales=measured.loss_scales)
    assert all(device.startswith("npu") for device in measured.parameter_devices)
    assert len(measured.loss_scales) == (precision == "fp16")
    evidence.check_curve("training loss", measured.losses, truth.losses, policy)
    evidence.check_equal("learning rates", measured.learning_rates, truth.learning_rates)


@pytest.mark.checkpoint
@requirement("accelerate/load-state", level="core")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_loaded_state_continues_exactly(train, evidence, precision):
    """After load_state, training goes along the same losses to the same weights as after save_state."""
    measured = train(AccelerateLoop(precision=precision))

    half = len(measured.losses) // 2
    evidence.check_equal("losses", measured.details["resumed losses"], measured.losses[half:])
    evidence.check_equal("learning rates", measured.details["resumed learning rates"], measured.learning_rates[half:])
    evidence.check_equal("weights", measured.details["resumed weights"], measured.final_weights)


@pytest.mark.checkpoint
@requirement("accelerate/load-state-restores-random-numbers", level="core")
def test_loaded_state_restores_the_random_numbers_of_the_card(train, evidence):
    """After load_state, dropout on the card draws what it drew after save_state."""
    measured = train(AccelerateLoop(dropout=0.1))

    half = len(measured.losses) // 2
    evidence.check_equal("losses", measured.details["resumed losses"], measured.losses[half:])

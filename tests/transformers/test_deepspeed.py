"""The Trainer with a DeepSpeed configuration on several cards."""

import pytest

from fixtures.requirement import requirement, unsupported
from fixtures.workloads import zero
from fixtures.workloads.zero_trainer import ZeroTrainer

pytestmark = [pytest.mark.deepspeed, pytest.mark.multi_npu]

ZERO2, ZERO3, BF16 = ZeroTrainer(stage=2), ZeroTrainer(stage=3), ZeroTrainer(stage=3, precision="bf16")
TOGETHER = ZERO2, ZERO3, BF16


@pytest.fixture
def trained(ranks):
    """trained(spec) -> what each of two ranks measured."""
    if not zero.installed():
        unsupported("deepspeed is not installed: pip install deepspeed")
    return lambda spec: ranks(spec, 2, together=TOGETHER)


@requirement("transformers/deepspeed-training", level="core")
@pytest.mark.parametrize("spec", [pytest.param(ZERO2, id="zero2"), pytest.param(ZERO3, id="zero3")])
def test_the_trainer_follows_one_process(trained, evidence, reference, spec):
    """The Trainer under ZeRO follows losses and gradient norms of one process, and saves the weights it ends with."""
    measured, truth = trained(spec)[0], reference(spec, "float64")

    evidence.check_equal("engine", measured.details, {"engine": "DeepSpeedEngine", "stage": spec.stage})
    evidence.check_curve("training loss", measured.losses, truth.losses)
    evidence.check_curve("gradient norm", measured.gradient_norms, truth.gradient_norms)
    evidence.check_tensors(
        "saved weight", measured.final_weights, truth.final_weights, reference(spec, "float32").final_weights
    )


@pytest.mark.bf16
@requirement("transformers/deepspeed-bf16", level="core")
def test_the_trainer_in_bf16_follows_one_process(trained, evidence, reference):
    """The Trainer under ZeRO-3 in bf16 follows the exact losses and gradient norms of one process."""
    measured, truth = trained(BF16)[0], reference(BF16, "float64")

    evidence.check_curve("training loss", measured.losses, truth.losses, precision="bf16")
    evidence.check_curve("gradient norm", measured.gradient_norms, truth.gradient_norms, precision="bf16")

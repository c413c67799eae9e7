"""Mixed precision in bfloat16."""

import dataclasses

import pytest

from fixtures.chips import chip
from fixtures.requirement import requirement, unsupported
from fixtures.workloads.sequence_classification import SequenceClassification

pytestmark = [pytest.mark.single_npu, pytest.mark.bf16]

BERT = SequenceClassification(precision="bf16")
FIRST_STEP = SequenceClassification(precision="bf16", steps=1, evaluate=False, max_grad_norm=1e9)


@pytest.fixture(autouse=True)
def bf16_chip(request, npu):
    """Ends a test whose chip has no bfloat16, but for those about its refusal."""
    import torch

    name = torch.npu.get_device_name(npu)
    if not chip(name).bf16 and "refused" not in request.node.name:
        unsupported(f"{name} has no bfloat16")


@requirement("transformers/bf16-first-gradients", level="core")
def test_first_gradients_match_the_cpu(train, reference, evidence):
    """Every gradient of the first bfloat16 step is as close to the exact one as bfloat16 on the CPU."""
    measured = train(FIRST_STEP)

    truth, peer = reference(FIRST_STEP, "float64"), reference(FIRST_STEP, "bfloat16")
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients, precision="bf16")


@requirement("transformers/bf16-loss-curve", level="core")
def test_loss_curve_matches_float32(train, reference, evidence):
    """Training in bfloat16 follows the exact loss curve, on the card, with no loss scale."""
    measured = train(BERT)

    evidence.check_equal("devices of the parameters", measured.parameter_devices, ("npu:0",))
    evidence.check_equal("loss scales", measured.loss_scales, ())
    evidence.check_curve("training loss", measured.losses, reference(BERT, "float64").losses, precision="bf16")


@requirement("transformers/bf16-learns", level="core")
def test_trainer_learns_in_bfloat16(train, evidence):
    """Fine-tuning in bfloat16 lowers the loss and finds nine labels of ten or more."""
    measured = train(dataclasses.replace(BERT, steps=60))

    evidence.add(losses=measured.losses, metrics=measured.metrics)
    assert sum(measured.losses[-5:]) < 0.5 * sum(measured.losses[:5])
    assert measured.metrics["eval_accuracy"] > 0.9


@requirement("transformers/bf16-default-optimizer", level="core")
def test_default_optimizer_trains_in_bfloat16(train, reference, evidence):
    """The Trainer with bf16 and its default optimizer follows the exact loss curve."""
    measured = train(dataclasses.replace(BERT, optim=None))

    evidence.check_curve("training loss", measured.losses, reference(BERT, "float64").losses, precision="bf16")


@pytest.mark.host
@requirement("transformers/bf16-refused", level="core")
def test_bfloat16_is_refused_exactly_where_the_chip_lacks_it(npu, evidence, tmp_path):
    """TrainingArguments accepts bf16 on a chip that has it, and refuses it with a clear error on one that has not."""
    import torch
    from transformers import TrainingArguments

    try:
        TrainingArguments(output_dir=str(tmp_path), bf16=True, report_to=[])
        answer = "accepted"
    except ValueError as error:
        answer = "refused for bf16" if "bf16" in str(error) else str(error)

    has_bf16 = chip(torch.npu.get_device_name(npu)).bf16
    evidence.check_equal("answer to bf16=True", answer, "accepted" if has_bf16 else "refused for bf16")

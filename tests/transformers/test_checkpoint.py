"""Checkpoints of the Trainer: resumed on the card exactly, and carried between card and CPU."""

import dataclasses

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.sequence_classification import SequenceClassification

pytestmark = [pytest.mark.single_npu, pytest.mark.checkpoint]

HALF = 4
BERT = SequenceClassification(steps=2 * HALF, save_steps=HALF)


def saved(workload: SequenceClassification, directory) -> SequenceClassification:
    """The workload with its checkpoints kept in the directory."""
    return dataclasses.replace(workload, output_dir=str(directory))


def resumed(workload: SequenceClassification) -> SequenceClassification:
    """The same run, continued from its checkpoint half way."""
    return dataclasses.replace(workload, resume_from=f"{workload.output_dir}/checkpoint-{HALF}")


@requirement("transformers/resume-exactly", level="core")
@pytest.mark.parametrize(
    "precision", ["fp32", pytest.param("fp16", marks=pytest.mark.fp16), pytest.param("bf16", marks=pytest.mark.bf16)]
)
def test_resumed_run_equals_an_uninterrupted_one(train, evidence, tmp_path, caplog, precision):
    """A run resumed from a checkpoint, with dropout, ends in the losses and weights of one that never stopped."""
    workload = saved(dataclasses.replace(BERT, precision=precision, dropout=0.1), tmp_path)

    straight = train(workload)
    continued = train(resumed(workload))

    evidence.check_equal("losses", continued.losses[-HALF:], straight.losses[HALF:])
    evidence.check_equal("weights", continued.final_weights, straight.final_weights)
    evidence.check_equal("evaluation loss", continued.metrics["eval_loss"], straight.metrics["eval_loss"])
    # The Trainer only logs it when it cannot restore the card's random numbers.
    assert "Didn't manage to set back the RNG states" not in caplog.text


@requirement("transformers/checkpoint-npu-to-cpu", level="core")
def test_checkpoint_of_the_card_continues_on_the_cpu(train, reference, evidence, tmp_path):
    """A checkpoint saved on the card is continued by a CPU without NPU along the same losses to the same weights."""
    workload = saved(dataclasses.replace(BERT, optim="sgd", lr=0.05, activation="relu"), tmp_path)

    on_card = train(workload)
    on_cpu = reference(resumed(workload), "float32")

    assert on_cpu.parameter_devices == ("cpu",)
    evidence.check_curve("training loss", on_card.losses[HALF:], on_cpu.losses[-HALF:])
    evidence.check_tensors("weight", on_card.final_weights, on_cpu.final_weights, on_cpu.final_weights)


@requirement("transformers/checkpoint-cpu-to-npu", level="core")
def test_checkpoint_of_the_cpu_continues_on_the_card(train, reference, evidence, tmp_path):
    """A checkpoint saved on a CPU without NPU is continued by the card along the same losses to the same weights."""
    workload = saved(dataclasses.replace(BERT, optim="sgd", lr=0.05, activation="relu"), tmp_path)

    on_cpu = reference(workload, "float32")
    on_card = train(resumed(workload))

    assert on_card.parameter_devices == ("npu:0",)
    evidence.check_curve("training loss", on_card.losses[-HALF:], on_cpu.losses[HALF:])
    evidence.check_tensors("weight", on_card.final_weights, on_cpu.final_weights, on_cpu.final_weights)

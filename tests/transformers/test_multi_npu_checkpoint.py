"""Checkpoints of the Trainer on several cards: resumed exactly, and by another number of ranks; the same bits twice."""

import dataclasses

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.sequence_classification import SequenceClassification

pytestmark = [pytest.mark.multi_npu, pytest.mark.checkpoint]

HALF = 3
# Exact gelu is a subject of its own (known defect GELU).
BERT = SequenceClassification(
    steps=2 * HALF, activation="relu", evaluate=False, average_tokens_across_devices=False, hidden=32
)
DROPOUT = dataclasses.replace(BERT, dropout=0.1)
PRECISIONS = ["fp32", "fp16", "bf16"]


@pytest.fixture
def runs(shared_directory):
    """runs(name, spec) -> (the run that saves a checkpoint half way, the run that goes on from it)."""

    def pair(name: str, spec: SequenceClassification) -> tuple[SequenceClassification, SequenceClassification]:
        directory = shared_directory / f"checkpoints-{name}"
        saving = dataclasses.replace(spec, save_steps=HALF, output_dir=str(directory))
        resume = {"resume_from": f"{directory}/checkpoint-{HALF}", "output_dir": None, "save_steps": 0}
        return saving, dataclasses.replace(saving, **resume)

    return pair


@pytest.fixture
def two_ranks(ranks, runs):
    """two_ranks(spec) -> what each of two ranks measured, started together with all that is saved and resumed here."""
    pairs = [runs(precision, dataclasses.replace(DROPOUT, precision=precision)) for precision in PRECISIONS]
    together = (*(run for pair in pairs for run in pair), DROPOUT, dataclasses.replace(DROPOUT, seed=1))
    return lambda spec: ranks(spec, 2, together=together)


@requirement("transformers/ddp-resume-exactly", level="core")
@pytest.mark.parametrize(
    "precision", ["fp32", pytest.param("fp16", marks=pytest.mark.fp16), pytest.param("bf16", marks=pytest.mark.bf16)]
)
def test_resumed_run_equals_an_uninterrupted_one(two_ranks, runs, evidence, precision):
    """On two cards a run resumed from a checkpoint, with dropout, repeats every bit of one that never stopped."""
    saving, resuming = runs(precision, dataclasses.replace(DROPOUT, precision=precision))

    straight, continued = two_ranks(saving), two_ranks(resuming)

    for rank in range(2):
        evidence.check_equal("losses", continued[rank].losses[-HALF:], straight[rank].losses[HALF:])
        evidence.check_equal("weights", continued[rank].final_weights, straight[rank].final_weights)


@requirement("transformers/ddp-same-bits-twice", level="core")
def test_the_same_seed_trains_to_the_same_bits(two_ranks, runs, evidence):
    """On two cards two runs with one seed have the same bits, dropout included, and another seed gives others."""
    first, second = two_ranks(runs("fp32", DROPOUT)[0]), two_ranks(DROPOUT)
    other = two_ranks(dataclasses.replace(DROPOUT, seed=1))

    for rank in range(2):
        evidence.check_equal("losses", second[rank].losses, first[rank].losses)
        evidence.check_equal("weights", second[rank].final_weights, first[rank].final_weights)
    assert other[0].losses != first[0].losses


@requirement("transformers/resume-with-another-world-size", level="core")
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 4)])
def test_resume_with_another_number_of_ranks(ranks, runs, reference, evidence, before, after):
    """A checkpoint of some ranks is resumed by fewer or more, with the same global batch, along the same losses."""
    spec = dataclasses.replace(BERT, optim="sgd", lr=0.05)
    saving, resuming = runs(f"{before}-ranks", spec)

    def measure(run, world_size: int):
        return ranks(run, world_size, launcher="python" if world_size == 1 else "torchrun")[0]

    measure(saving, before)
    continued = measure(resuming, after)

    truth, peer = reference(spec, "float64"), reference(spec, "float32")
    evidence.check_curve("training loss", continued.losses[-HALF:], truth.losses[HALF:])
    evidence.check_tensors("weight", continued.final_weights, truth.final_weights, peer.final_weights)

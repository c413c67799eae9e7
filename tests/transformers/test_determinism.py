"""The same seed trains to the same bits: twice in a process, and however operators are queued and memory is managed."""

import dataclasses
import os
import sys

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.sequence_classification import SequenceClassification
from fixtures.workloads.small_training import SmallTraining

pytestmark = [pytest.mark.single_npu]

BERT = SequenceClassification(steps=4, dropout=0.1, hidden=32, layers=1, evaluate=False)
PRECISIONS = ["fp32", pytest.param("fp16", marks=pytest.mark.fp16)]

TRAIN = """
from fixtures.training import run
from fixtures.workloads.small_training import SmallTraining
measured = run(SmallTraining(), "npu")
report(losses=measured.losses, digest=measured.details["digest"])
"""


@pytest.fixture
def full_determinism(npu, monkeypatch):
    """enable_full_determinism(seed) of transformers, undone in the end."""
    import torch
    from transformers import enable_full_determinism

    for name in ("CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG", "ASCEND_LAUNCH_BLOCKING", "HCCL_DETERMINISTIC"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # so that it is put back
    monkeypatch.setenv("FLASH_ATTENTION_DETERMINISTIC", "")
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    yield enable_full_determinism
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


@pytest.mark.parametrize("precision", PRECISIONS)
@requirement("transformers/full-determinism", level="core")
def test_full_determinism_trains_to_the_same_bits(full_determinism, train, evidence, precision):
    """Under enable_full_determinism the Trainer repeats every bit, dropout included; another seed gives others."""
    import torch

    workload = dataclasses.replace(BERT, precision=precision)
    full_determinism(workload.seed)
    evidence.check_equal("deterministic algorithms", torch.are_deterministic_algorithms_enabled(), True)

    first, second = train(workload, fresh=True), train(workload, fresh=True)
    other = train(dataclasses.replace(workload, seed=1), fresh=True)

    evidence.check_equal("losses", second.losses, first.losses)
    evidence.check_equal("weights", second.final_weights, first.final_weights)
    assert other.losses != first.losses


@requirement("transformers/deterministic-algorithms", level="core")
def test_deterministic_algorithms_change_no_result(npu, train, reference, evidence):
    """Training under torch.use_deterministic_algorithms repeats every bit and follows the exact loss curve."""
    workload = SmallTraining(dropout=0.0)

    first, second = train(workload, fresh=True), train(workload, fresh=True)

    evidence.check_equal("bits", second.details["digest"], first.details["digest"])
    evidence.check_curve("training loss", first.losses, reference(workload, "float64").losses)


@requirement("transformers/set-seed", level="core")
def test_set_seed_restores_every_generator(npu, evidence):
    """The seed given to set_seed determines the numbers of Python, NumPy, the CPU and the card."""
    import random

    import numpy
    import torch
    from transformers import set_seed

    def draw(seed: int) -> dict:
        set_seed(seed)
        card = torch.rand(4, device="npu").tolist()
        return {
            "python": random.random(),
            "numpy": float(numpy.random.rand()),
            "cpu": torch.rand(1).item(),
            "card": card,
        }

    first, second, other = draw(5), draw(5), draw(6)

    evidence.check_equal("numbers", second, first)
    evidence.check_equal("generators that ignore the seed", [name for name in first if first[name] == other[name]], [])


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"TASK_QUEUE_ENABLE": "0"}, id="no-task-queue"),
        pytest.param({"TASK_QUEUE_ENABLE": "2"}, id="two-task-queues"),
        pytest.param({"ASCEND_LAUNCH_BLOCKING": "1"}, id="blocking"),
        pytest.param({"PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True"}, id="expandable-segments"),
    ],
)
@requirement("transformers/same-bits-in-every-mode", level="core")
def test_execution_modes_train_to_the_same_bits(train, probe, evidence, environment):
    """Neither the task queue, nor blocking launches, nor expandable memory segments change a bit of a training."""
    expected = train(SmallTraining())

    probed = probe(TRAIN, PYTHONPATH=os.pathsep.join(filter(None, sys.path)), **environment)

    evidence.add(output=probed.output[-1500:])
    evidence.check_equal("losses", probed.facts.get("losses"), list(expected.losses))
    evidence.check_equal("bits of losses and weights", probed.facts["digest"], expected.details["digest"])


@pytest.mark.host
@requirement("transformers/full-determinism-of-collectives", level="core")
def test_full_determinism_reaches_the_collectives(full_determinism, evidence):
    """Under enable_full_determinism HCCL_DETERMINISTIC has a value that asks HCCL and torch_npu for determinism."""
    full_determinism(0)

    known = ("true", "strict")  # CANN's reference of environment variables; torch_npu compares with the first
    value = os.environ["HCCL_DETERMINISTIC"]
    evidence.check_equal(f"HCCL_DETERMINISTIC={value} is one of {known}", value.lower() in known, True)

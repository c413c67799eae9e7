"""Tensor parallelism: from_pretrained(tp_plan="auto") on two ranks."""

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.tensor_parallel import TensorParallel

pytestmark = pytest.mark.multi_npu


@requirement("transformers/tensor-parallel-starts-itself", level="core")
def test_tensor_parallelism_initialises_its_collectives(ranks, reference, evidence):
    """Under torchrun a model is divided over two ranks without a process group that the script initialised."""
    spec = TensorParallel()

    measured = ranks(spec, 2)

    truth = reference(spec, "float64")
    for rank, result in enumerate(measured):
        evidence.check_equal(f"devices of rank {rank}", result.parameter_devices, (f"npu:{rank}",))
        evidence.check_curve("loss", result.losses, truth.losses)

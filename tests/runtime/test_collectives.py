"""The collectives of torch.distributed over hccl: operation x dtype x shape, against values computed on the CPU."""

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.collectives import OPERATIONS, Collectives

pytestmark = [pytest.mark.multi_npu, pytest.mark.runtime]


@requirement("runtime/collectives", level="core")
@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_collective(ranks, reference, evidence, operation, world_size):
    """A collective gives every rank exactly the values that follow from all inputs, in every dtype and shape."""
    spec = Collectives(operation, world_size)
    everything = [Collectives(other, world_size) for other in OPERATIONS]

    measured = ranks(spec, world_size, together=everything)

    for rank, expected in reference(spec).details.items():
        evidence.check_equal(f"results of rank {rank}", measured[rank].details, expected)

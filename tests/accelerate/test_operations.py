"""gather, reduce, broadcast and pad_across_processes of accelerate on several cards: dtype x shape."""

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.accelerate_operations import OPERATIONS, PAD_BOOL, AccelerateOperations
from fixtures.workloads.accelerate_ranks import everything

pytestmark = pytest.mark.multi_npu


@requirement("accelerate/operations", level="core")
@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation(ranks, reference, evidence, operation, world_size):
    """An operation of accelerate gives every rank exactly what follows from all inputs, in every dtype and shape."""
    spec = AccelerateOperations(operation, world_size)

    measured = ranks(spec, world_size, together=everything(world_size))

    for rank, expected in reference(spec).details.items():
        evidence.check_equal(f"results of rank {rank}", measured[rank].details, expected)


@requirement("accelerate/pad-of-bool", level="extended")
def test_padded_masks_stay_masks(ranks, reference, evidence):
    """A mask of bool padded by pad_across_processes is one on every rank, those that need no padding and the others."""
    spec = AccelerateOperations(PAD_BOOL)

    measured = ranks(spec, 2, together=everything(2))

    for rank, expected in reference(spec).details.items():
        evidence.check_equal(f"rank {rank}", measured[rank].details, expected)

"""Several nodes: torchrun --nnodes, one launcher each. Without --nodes two launchers on this host rehearse them."""

import pytest

from fixtures import nodes
from fixtures.requirement import requirement
from fixtures.workloads.collectives import Collectives

pytestmark = [pytest.mark.multi_node, pytest.mark.multi_npu, pytest.mark.runtime]
OPERATIONS = ("all_reduce", "broadcast", "all_gather", "reduce_scatter_tensor", "all_to_all", "send_and_receive")


@requirement("runtime/multi-node-collectives", level="extended")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_collective_across_nodes(ranks, reference, evidence, operation):
    """A collective across the ranks of several torchrun launchers gives every rank what follows from all inputs."""
    spec = Collectives(operation, 4)
    evidence.add(hosts=nodes.hosts())

    measured = ranks(spec, 4, launcher="nodes", together=[Collectives(other, 4) for other in OPERATIONS])

    for rank, expected in reference(spec).details.items():
        evidence.check_equal(f"results of rank {rank}", measured[rank].details, expected)

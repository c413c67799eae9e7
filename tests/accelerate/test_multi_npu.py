"""accelerate on several cards of one machine: its own shipped checks, through accelerate launch."""

import pytest

from fixtures.discovery import version_of
from fixtures.requirement import requirement, unsupported

pytestmark = [pytest.mark.multi_npu, pytest.mark.cli]

SCRIPTS = {
    "test_script": "data loaders, samplers, random numbers and training of one process and of several",
    "test_ops": "gather, reduce, broadcast, pad_across_processes",
    "test_sync": "no_sync and gradient accumulation",
    "test_distributed_data_loop": "uneven data, join_uneven_inputs, dispatch of batches",
}
# Of the other scripts there, those in external_deps load models and data from a hub, or do nothing on NPUs
# (test_pippy); test_merge_weights is about FSDP.


@requirement("accelerate/shipped-checks", level="core")
@pytest.mark.parametrize("script", SCRIPTS)
def test_accelerate_passes_its_own_checks(ranks, evidence, script):
    """The scripts with which accelerate verifies itself succeed on two cards under accelerate launch."""
    if script == "test_distributed_data_loop" and version_of("torchdata") is None:
        unsupported("the script needs StatefulDataLoader; pip install torchdata")

    completed = ranks.module(f"accelerate.test_utils.scripts.{script}", launcher="accelerate", deadline=500)

    evidence.add(output=completed.stdout[-3000:])
    completed.check()
    evidence.check_equal("processes that computed on a card", completed.npu.processes, 2)

"""Trainers of trl on two cards, under torchrun: as one process with the same global batch."""

import dataclasses

import pytest

from fixtures.requirement import requirement
from fixtures.trl_checks import both
from fixtures.workloads.trl_common import gathered
from fixtures.workloads.trl_preference import DPO
from fixtures.workloads.trl_rollouts import GRPO
from fixtures.workloads.trl_sft import SFT

pytestmark = [pytest.mark.multi_npu, pytest.mark.trl]

# Batches of one rank; a process alone takes twice as many. All start together: the start is what takes time.
TRAINERS = {"sft": SFT(batch=4), "dpo": DPO(batch=2), "grpo": GRPO(reward="model", beta=0.1)}


@requirement("trl/ddp-on-data", level="core")
@pytest.mark.parametrize("trainer", ["sft", "dpo"])
def test_two_ranks_train_as_one_process(ranks, reference, evidence, trainer):
    """SFTTrainer and DPOTrainer on two cards have first gradients and a loss curve as exact as one process's."""
    workload = TRAINERS[trainer]

    measured = ranks(workload, 2, together=tuple(TRAINERS.values()))

    truth, peer = both(reference, dataclasses.replace(workload, batch=2 * workload.batch))
    assert [result.parameter_devices for result in measured] == [("npu:0",), ("npu:1",)]
    for result in measured:
        evidence.check_gradients(result.gradients, truth.gradients, peer.gradients)
    evidence.check_curve("training loss", measured[0].losses, truth.losses)
    evidence.check_equal("weights", measured[1].final_weights, measured[0].final_weights)


@requirement("trl/ddp-grpo", level="core")
def test_two_ranks_learn_from_what_both_generate(ranks, reference, evidence):
    """GRPOTrainer on two cards samples other completions on each, and has first gradients as exact as one process's."""
    workload = TRAINERS["grpo"]

    measured = ranks(workload, 2, together=tuple(TRAINERS.values()))

    own = [result.details["rollouts"] for result in measured]
    assert own[0] != own[1]
    together = gathered(own, [result.details["prompt widths"] for result in measured])
    truth, peer = both(reference, dataclasses.replace(workload, batch=2 * workload.batch, rollouts=together))
    for result in measured:
        evidence.check_gradients(result.gradients, truth.gradients, peer.gradients)
    for name in ("reward", "reward_std"):
        logged = measured[0].details["metrics"][name]
        evidence.check_curve(name, [logged], [truth.details["metrics"][name]])
    evidence.check_equal("weights", measured[1].final_weights, measured[0].final_weights)

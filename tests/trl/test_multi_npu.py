"""Trainers of trl on two cards, under torchrun: as one process with the same global batch."""

import dataclasses

import pytest

from fixtures.requirement import requirement
from fixtures.trl_checks import both
from fixtures.workloads.trl_common import gathered
from fixtures.workloads.trl_experimental import Experimental
from fixtures.workloads.trl_preference import DPO, KTO, Reward
from fixtures.workloads.trl_rollouts import GRPO, RLOO, Distillation
from fixtures.workloads.trl_sft import SFT

pytestmark = [pytest.mark.multi_npu, pytest.mark.trl]

# Batches of one rank; a process alone takes twice as many. All start together: the start is what takes time.
ON_DATA = {
    "sft": SFT(batch=4),
    "sft-lora": SFT(batch=4, lora=True, gradient_checkpointing=True),
    "dpo": DPO(batch=2),
    # The loss of the default pairs each prompt with a completion of its rank's batch, which one process would not.
    "kto": KTO(batch=4, options=(("loss_type", "apo_zero_unpaired"),)),
    "reward": Reward(batch=2),
    "simpo": Experimental(trainer="cpo", batch=2, options=(("loss_type", "simpo"), ("cpo_alpha", 0.0))),
}
ON_ROLLOUTS = {"grpo": GRPO(reward="model", beta=0.1), "rloo": RLOO(), "distillation": Distillation(batch=4)}
TOGETHER = (*ON_DATA.values(), *ON_ROLLOUTS.values())


@requirement("trl/ddp-on-data", level="core")
@pytest.mark.parametrize("trainer", ON_DATA)
def test_two_ranks_train_as_one_process(ranks, reference, evidence, trainer):
    """Each trainer on given data has first gradients and a loss curve on two cards as exact as one process's."""
    workload = ON_DATA[trainer]

    measured = ranks(workload, 2, together=TOGETHER)

    truth, peer = both(reference, dataclasses.replace(workload, batch=2 * workload.batch))
    assert [result.parameter_devices for result in measured] == [("npu:0",), ("npu:1",)]
    for result in measured:
        evidence.check_gradients(result.gradients, truth.gradients, peer.gradients)
    evidence.check_curve("training loss", measured[0].losses, truth.losses)
    evidence.check_equal("weights", measured[1].final_weights, measured[0].final_weights)


@requirement("trl/ddp-on-rollouts", level="core")
@pytest.mark.parametrize("trainer", ON_ROLLOUTS)
def test_two_ranks_learn_from_what_both_generate(ranks, reference, evidence, trainer):
    """Each trainer that generates samples other completions on each card, and has one process's first gradients."""
    workload = ON_ROLLOUTS[trainer]

    measured = ranks(workload, 2, together=TOGETHER)

    own = [result.details["rollouts"] for result in measured]
    assert own[0] != own[1]
    together = gathered(own, [result.details["prompt widths"] for result in measured])
    truth, peer = both(reference, dataclasses.replace(workload, batch=2 * workload.batch, rollouts=together))
    for result in measured:
        evidence.check_gradients(result.gradients, truth.gradients, peer.gradients)
    for name in ("reward", "reward_std") if trainer != "distillation" else ("completions/mean_length",):
        logged = measured[0].details["metrics"][name]
        evidence.check_curve(name, [logged], [truth.details["metrics"][name]])
    evidence.check_equal("weights", measured[1].final_weights, measured[0].final_weights)

"""The experimental trainers of trl that need neither a network nor vLLM, on one card."""

import pytest

from fixtures.requirement import requirement
from fixtures.trl_checks import both, check_first_step, check_movement
from fixtures.workloads.trl_experimental import Experimental

pytestmark = [pytest.mark.single_npu, pytest.mark.trl]

ON_DATA = {
    "orpo": Experimental(trainer="orpo"),
    "cpo": Experimental(trainer="cpo"),
    "simpo": Experimental(trainer="cpo", options=(("loss_type", "simpo"), ("cpo_alpha", 0.0))),
    "tpo": Experimental(trainer="tpo"),
    "gkd": Experimental(trainer="gkd", options=(("lmbda", 0.0),)),
}
ON_ROLLOUTS = {
    "gkd": Experimental(trainer="gkd", options=(("lmbda", 1.0),)),
    "online dpo": Experimental(trainer="online_dpo", optim="sgd", lr=0.1),
    "gmpo": Experimental(trainer="gmpo", optim="sgd", lr=0.1),
}


@requirement("trl/experimental-on-data", level="extended")
@pytest.mark.parametrize("kind", ON_DATA)
def test_trainers_on_data_train_as_the_cpu(train, reference, evidence, kind):
    """Each experimental trainer on given texts has losses and first gradients as exact as the CPU's."""
    measured = train(ON_DATA[kind])

    truth, peer = both(reference, ON_DATA[kind])
    check_first_step(evidence, measured, truth, peer)
    evidence.check_curve("training loss", measured.losses, truth.losses)


@requirement("trl/experimental-on-rollouts", level="extended")
@pytest.mark.parametrize("kind", ON_ROLLOUTS)
def test_trainers_on_rollouts_train_as_the_cpu(train, reference, evidence, kind):
    """Each experimental trainer that generates has first gradients and weights as exact as the CPU's on the same."""
    measured = train(ON_ROLLOUTS[kind])

    assert measured.details["rollouts"]
    truth, peer = both(reference, ON_ROLLOUTS[kind], measured)
    check_first_step(evidence, measured, truth, peer)
    if kind == "gkd":
        evidence.check_curve("training loss", measured.losses, truth.losses)
    else:  # whose losses are near zero
        check_movement(evidence, measured, truth, peer)

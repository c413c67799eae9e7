"""Learning from preferences by trl on one card: DPO, KTO and reward models."""

import dataclasses

import pytest

from fixtures.requirement import requirement
from fixtures.tolerances import EPSILON, TENSOR
from fixtures.trl_checks import both, check_first_step
from fixtures.workloads.trl_preference import DPO, KTO, Reward

pytestmark = [pytest.mark.single_npu, pytest.mark.trl]

DPO_METRICS = ("logps/chosen", "logps/rejected", "rewards/accuracies", "rewards/chosen", "rewards/margins")
LOSSES = (
    *("hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot"),
    *("aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"),
)


@requirement("trl/dpo", level="core")
@pytest.mark.parametrize("kind", ["another reference", "accumulation"])
def test_dpo_trains_as_the_cpu(train, reference, evidence, kind):
    """DPOTrainer with a reference model has losses, metrics and first gradients as exact as the CPU's."""
    workload = (
        DPO() if kind == "another reference" else DPO(batch=2, gradient_accumulation=2, gradient_checkpointing=True)
    )

    measured = train(workload)

    truth, peer = both(reference, workload)
    check_first_step(evidence, measured, truth, peer, metrics=DPO_METRICS)
    evidence.check_curve("training loss", measured.losses, truth.losses)


@requirement("trl/dpo-losses", level="extended")
@pytest.mark.parametrize("loss", LOSSES)
def test_each_dpo_loss_trains_as_the_cpu(train, reference, evidence, loss):
    """Each loss of DPOTrainer has first gradients and metrics as exact as the CPU's."""
    more = {
        "robust": (("label_smoothing", 0.1),),
        "exo_pair": (("label_smoothing", 0.1),),
        "discopop": (("discopop_tau", 1.0),),  # its default, 0.05, multiplies everybody's rounding by 20
    }
    workload = DPO(steps=1, options=(("loss_type", (loss,)), *more.get(loss, ())))

    measured = train(workload)

    truth, peer = both(reference, workload)
    check_first_step(evidence, measured, truth, peer, metrics=DPO_METRICS)


@requirement("trl/dpo-starts-at-the-reference", level="core")
def test_dpo_starts_where_its_reference_is(train, reference, evidence):
    """The reference model that DPOTrainer makes itself is the initial model: no text is rewarded at the first step."""
    workload = DPO(reference="same")

    measured = train(workload)

    truth, _ = both(reference, workload)
    metrics = measured.details["metrics"]
    floor = TENSOR["fp32"].floor_ulps * EPSILON["fp32"] * abs(metrics["logps/rejected"])
    for name in ("rewards/chosen", "rewards/rejected", "rewards/margins"):
        evidence.check_below(name, abs(metrics[name]), floor, "floor of the table of limits")
    evidence.check_curve("training loss", measured.losses, truth.losses)


@requirement("trl/dpo-precomputed-reference", level="core")
def test_precomputed_reference_changes_nothing(train, reference, evidence):
    """DPOTrainer with the reference's log-probabilities computed beforehand trains as without, on the CPU."""
    workload = DPO(options=(("precompute_ref_log_probs", True),))

    measured = train(workload)

    truth, peer = both(reference, DPO())
    check_first_step(evidence, measured, truth, peer, metrics=DPO_METRICS)
    evidence.check_curve("training loss", measured.losses, truth.losses)


@pytest.mark.peft_adapter
@requirement("trl/dpo-lora", level="core")
def test_dpo_trains_an_adapter_against_its_base(train, reference, evidence):
    """DPOTrainer with a LoRA configuration takes the model without adapter as reference, and trains as the CPU."""
    workload = DPO(lora=True, reference="adapter")

    measured = train(workload)

    truth, peer = both(reference, workload)
    check_first_step(evidence, measured, truth, peer, metrics=DPO_METRICS)
    evidence.check_curve("training loss", measured.losses, truth.losses)


@requirement("trl/kto", level="core")
@pytest.mark.parametrize("options", [(), (("loss_type", "apo_zero_unpaired"),)], ids=["kto", "apo"])
def test_kto_trains_as_the_cpu(train, reference, evidence, options):
    """KTOTrainer's losses, metrics and first gradients are as exact as the CPU's."""
    workload = KTO(options=options)

    measured = train(workload)

    truth, peer = both(reference, workload)
    check_first_step(evidence, measured, truth, peer, metrics=("rewards/chosen", "logps/chosen"))
    evidence.check_curve("training loss", measured.losses, truth.losses)


@requirement("trl/kto-starts-at-the-reference", level="core")
def test_kto_starts_where_its_reference_is(train, reference, evidence):
    """The reference model that KTOTrainer makes itself is the initial model: no text is rewarded at the first step."""
    workload = KTO(reference="same")

    measured = train(workload)

    truth, _ = both(reference, workload)
    metrics = measured.details["metrics"]
    floor = TENSOR["fp32"].floor_ulps * EPSILON["fp32"] * abs(metrics["logps/chosen"])
    evidence.check_below("rewards/chosen", abs(metrics["rewards/chosen"]), floor, "floor of the table of limits")
    evidence.check_curve("training loss", measured.losses, truth.losses)


@pytest.mark.peft_adapter
@requirement("trl/kto-lora", level="extended")
def test_kto_trains_an_adapter_against_its_base(train, reference, evidence):
    """KTOTrainer with a LoRA configuration takes the model without adapter as reference, and trains as the CPU."""
    workload = KTO(lora=True, reference="adapter")

    measured = train(workload)

    truth, peer = both(reference, workload)
    check_first_step(evidence, measured, truth, peer, metrics=("rewards/chosen", "logps/chosen"))
    evidence.check_curve("training loss", measured.losses, truth.losses)


@requirement("trl/reward", level="core")
def test_reward_model_trains_as_the_cpu(train, reference, evidence):
    """RewardTrainer's losses, metrics and first gradients are as exact as the CPU's, and the loss falls."""
    workload = dataclasses.replace(Reward(), options=(("center_rewards_coefficient", 0.01),))

    measured = train(workload)

    truth, peer = both(reference, workload)
    check_first_step(evidence, measured, truth, peer, metrics=("accuracy", "margin", "mean_reward"))
    evidence.check_curve("training loss", measured.losses, truth.losses)
    assert measured.losses[-1] < measured.losses[0]

"""Trainers of trl that learn from what the model generates itself, on one card.

What the card sampled is given to the CPU, so that both compute the same from there on.
"""

import pytest

from fixtures.requirement import requirement
from fixtures.tolerances import EPSILON
from fixtures.trl_checks import both, check_first_step, check_movement
from fixtures.workloads.trl_rollouts import GRPO, RLOO, Distillation, Logprobs

pytestmark = [pytest.mark.single_npu, pytest.mark.trl]

LOGPROB = 1.0  # about the size of the logarithms that cancel where a student knows nearly what its teacher knows
METRICS = ("num_tokens", "completions/mean_length", "reward", "reward_std", "entropy")
KINDS = {
    "a function rewards": GRPO(),
    "a model rewards, reference": GRPO(reward="model", beta=0.1),
    "two iterations, grpo loss": GRPO(options=(("num_iterations", 2), ("loss_type", "grpo")), beta=0.1),
}


@requirement("trl/grpo", level="core")
@pytest.mark.parametrize("kind", KINDS)
def test_grpo_trains_as_the_cpu(train, reference, evidence, kind):
    """GRPOTrainer's rewards, losses, first gradients and weights are as exact as the CPU's on the same completions."""
    workload = KINDS[kind]

    measured = train(workload)

    truth, peer = both(reference, workload, measured)
    assert measured.details["metrics"]["reward_std"] > 0
    check_first_step(evidence, measured, truth, peer, metrics=METRICS)
    check_movement(evidence, measured, truth, peer)


# An adapter that begins as the identity, so that the base is the policy's start.
FRESH_ADAPTER = GRPO(lora=True, fresh_adapter=True, beta=0.1)
LOSSES = {
    "grpo": (),
    "dr_grpo": (),
    "bnpo": (),
    "cispo": (("epsilon_high", 5.0),),
    "sapo": (),
    "luspo": (("importance_sampling_level", "sequence"),),
    "vespo": (),
}


@requirement("trl/grpo-losses", level="extended")
@pytest.mark.parametrize("loss", LOSSES)
def test_each_grpo_loss_trains_as_the_cpu(train, reference, evidence, loss):
    """Each loss of GRPOTrainer has first gradients and metrics as exact as the CPU's on the same completions."""
    workload = GRPO(steps=1, options=(("loss_type", loss), *LOSSES[loss]))

    measured = train(workload)

    truth, peer = both(reference, workload, measured)
    check_first_step(evidence, measured, truth, peer, metrics=METRICS)


@pytest.mark.peft_adapter
@requirement("trl/grpo-lora", level="core")
def test_grpo_trains_an_adapter(train, reference, evidence):
    """GRPOTrainer with a LoRA configuration generates with the adapter and trains it alone, as the CPU does."""
    workload = GRPO(lora=True, beta=0.1)

    measured = train(workload)

    truth, peer = both(reference, workload, measured)
    check_first_step(evidence, measured, truth, peer, metrics=(*METRICS, "kl"))
    check_movement(evidence, measured, truth, peer)


@requirement("trl/grpo-starts-at-the-reference", level="core")
@pytest.mark.parametrize("adapter", [False, True], ids=["model", "adapter"])
def test_grpo_starts_where_its_reference_is(train, evidence, adapter):
    """The divergence of GRPOTrainer's policy from its reference model is zero at the first step, and not afterwards."""
    measured = train(FRESH_ADAPTER if adapter else KINDS["a model rewards, reference"])

    divergences = [entry["kl"] for entry in measured.details["logs"]]
    evidence.add(divergences=divergences)
    rounding = 3 * EPSILON["fp32"]
    evidence.check_below("divergence", abs(divergences[0]), rounding, "three roundings at 1 in exp(d) - d - 1")
    assert divergences[-1] > rounding


@requirement("trl/grpo-samples-by-seed", level="core")
def test_completions_are_determined_by_the_seed(train, evidence):
    """GRPOTrainer samples the same completions on the card for the same seed, and others at another temperature."""
    expected = train(GRPO()).details["rollouts"]
    again = train(GRPO(), fresh=True).details["rollouts"]
    cooler = train(GRPO(options=(("temperature", 0.7),))).details["rollouts"]

    evidence.check_equal("completions", again, expected)
    assert cooler != expected


@requirement("trl/rloo", level="core")
@pytest.mark.parametrize("reward", ["function", "model"])
def test_rloo_trains_as_the_cpu(train, reference, evidence, reward):
    """RLOOTrainer's rewards, losses, first gradients and weights are as exact as the CPU's on the same completions."""
    workload = RLOO(reward=reward)

    measured = train(workload)

    truth, peer = both(reference, workload, measured)
    check_first_step(evidence, measured, truth, peer, metrics=(*METRICS, "kl"))
    check_movement(evidence, measured, truth, peer)


@requirement("trl/rloo-starts-at-the-reference", level="core")
def test_rloo_starts_where_its_reference_is(train, evidence):
    """The divergence of RLOOTrainer's policy from its reference model is zero at the first step, and not afterwards."""
    measured = train(RLOO())

    divergences = [entry["kl"] for entry in measured.details["logs"]]
    evidence.add(divergences=divergences)
    # Of log-probabilities near -6, one for each token.
    rounding = 6 * EPSILON["fp32"] * 12
    evidence.check_below("divergence", abs(divergences[0]), rounding, "one rounding in each token's log-probability")
    assert abs(divergences[-1]) > rounding


@pytest.mark.peft_adapter
@requirement("trl/distillation-lora", level="extended")
def test_distillation_trains_an_adapter(train, reference, evidence):
    """DistillationTrainer with a LoRA configuration trains the adapter alone, with gradients as exact as the CPU's."""
    workload = Distillation(lora=True)

    measured = train(workload)

    truth, peer = both(reference, workload, measured)
    assert all("lora" in name for name in measured.gradients)
    check_first_step(evidence, measured, truth, peer)
    evidence.check_curve("training loss", measured.losses, truth.losses, scale_floor=LOGPROB)


@requirement("trl/distillation", level="core")
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_distillation_trains_as_the_cpu(train, reference, evidence, beta):
    """DistillationTrainer's losses and first gradients are as exact as the CPU's on the same completions."""
    workload = Distillation(options=(("beta", beta),))

    measured = train(workload)

    truth, peer = both(reference, workload, measured)
    check_first_step(evidence, measured, truth, peer, metrics=("num_tokens", "completions/mean_length"))
    evidence.check_curve("training loss", measured.losses, truth.losses, scale_floor=LOGPROB)


@requirement("trl/logprobs", level="core")
def test_logprobs_by_every_road(train, reference, evidence):
    """Fused, tiled and plain log-probabilities, their entropies and gradients are as exact as plain ones on the CPU."""
    measured = train(Logprobs())

    truth, peer = both(reference, Logprobs(), measured)
    for road in ("logits", "fused", "tiles"):
        for name in ("", "entropy "):
            of = (measured.details[name + road], truth.details[f"{name}logits"], peer.details[name + road])
            evidence.check_tensor(f"{name or 'log-probability '}{road}", *of)
        of = ({n.split(": ")[1]: g for n, g in m.gradients.items() if n.startswith(road)} for m in (measured, peer))
        plain = {n.split(": ")[1]: g for n, g in truth.gradients.items() if n.startswith("logits")}
        own, others = of
        evidence.check_tensors(f"gradient {road}", own, plain, others)


@requirement("trl/rollout-consistency", level="core")
def test_training_sees_what_the_sampler_saw(train, reference, evidence):
    """The log-probabilities with which tokens were sampled, with a cache, are those of the training's forward pass."""
    measured = train(Logprobs())

    truth, peer = both(reference, Logprobs(), measured)
    sampled = measured.details["generation"]
    evidence.check_tensor("log-probability at sampling", sampled, truth.details["fused"], peer.details["fused"])

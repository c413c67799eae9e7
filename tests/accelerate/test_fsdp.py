"""FSDP1 and FSDP2 under accelerate on two cards, compared with one process that trains on the global batch."""

import dataclasses

import pytest

from fixtures.requirement import requirement
from fixtures.step_checks import check_sharded
from fixtures.workloads.fsdp import APART, Fsdp, one_process

pytestmark = [pytest.mark.fsdp, pytest.mark.multi_npu]

ELEMENTS = 112448  # of the model

STRATEGIES = {
    "fsdp1-full-shard": Fsdp(version=1),
    "fsdp1-shard-grad-op": Fsdp(version=1, strategy="shard_grad_op"),
    "fsdp1-no-shard": Fsdp(version=1, strategy="no_shard"),
    "fsdp1-hybrid-shard": Fsdp(version=1, strategy="hybrid_shard"),
    "fsdp2-full-shard": Fsdp(),
    "fsdp2-shard-grad-op": Fsdp(strategy="shard_grad_op"),
}
WRAPS = {
    "fsdp1-flat-parameters": Fsdp(version=1, use_orig_params=False),
    "fsdp1-by-size": Fsdp(version=1, wrap="size"),
    "fsdp1-as-a-whole": Fsdp(version=1, wrap="nothing"),
    "fsdp2-as-a-whole": Fsdp(wrap="nothing"),
}
FUSED = {"fsdp1": Fsdp(version=1, optimizer="fused"), "fsdp2": Fsdp(optimizer="fused")}
LOADED = {
    "fsdp1-sync-module-states": Fsdp(version=1, loading="sync", steps=2),
    "fsdp1": Fsdp(version=1, loading="rank 0", steps=2),
    "fsdp2": Fsdp(loading="rank 0", steps=2),
}
CHECKPOINTED = {
    "fsdp1": Fsdp(version=1, activation_checkpointing=True),
    "fsdp2": Fsdp(activation_checkpointing=True),
    "fsdp2-offloaded": Fsdp(activation_checkpointing=True, activation_offload=True),
}
ACCUMULATED = {"fsdp1": Fsdp(version=1, accumulation=2), "fsdp2": Fsdp(accumulation=2)}
PARTS = {f"fsdp{version}-{kind}": Fsdp(version=version, kind=kind) for version in (1, 2) for kind in ("tied", "frozen")}
OFFLOADED = {"fsdp1": Fsdp(version=1, offload=True), "fsdp2": Fsdp(offload=True, max_grad_norm=0.0)}

MIXED = {
    f"fsdp{version}-{precision}": Fsdp(version=version, precision=precision)
    for version in (1, 2)
    for precision in ("fp16", "bf16")
}
HALF = {f"fsdp{version}": Fsdp(version=version, precision="bf16", half_weights=True) for version in (1, 2)}
OVERFLOW = {
    f"fsdp{version}": Fsdp(version=version, precision="fp16", steps=4, overflow_at_step=1) for version in (1, 2)
}
FUSED_OVERFLOW = dataclasses.replace(OVERFLOW["fsdp2"], optimizer="fused")
OFFLOADED_OVERFLOW = dataclasses.replace(OVERFLOW["fsdp1"], offload=True)
BROKEN = {"fused": FUSED_OVERFLOW, "offloaded": OFFLOADED_OVERFLOW}

# Each batch is run by the same ranks. What ends its ranks is in none, or the last: accelerate before 1.15 offloads no
# activations.
BATCHES = tuple(
    tuple(spec for specs in batch for spec in specs.values())
    for batch in (
        (STRATEGIES, WRAPS, FUSED, LOADED),
        (ACCUMULATED, PARTS, OFFLOADED, CHECKPOINTED),
        (MIXED, HALF, OVERFLOW, BROKEN),
    )
)


@pytest.fixture
def trained(ranks):
    """trained(spec, **how) -> what each of two ranks measured, started together with its batch."""

    def measure(spec, **how):
        together = next((batch for batch in BATCHES if spec in batch), ())
        return ranks(spec, 2, together=together, **how)

    return measure


@pytest.fixture
def follows(reference, evidence):
    """follows(measured, spec): float32 losses, norms and final weights are those of one process."""

    def check(measured, spec: Fsdp) -> None:
        truth, peer = reference(one_process(spec), "float64"), reference(one_process(spec), "float32")
        check_sharded(evidence, measured, truth, peer)

    return check


def each(specs: dict, *marks):
    """Parameters of a test, by the names of the settings."""
    return pytest.mark.parametrize("spec", [pytest.param(spec, id=name, marks=marks) for name, spec in specs.items()])


@requirement("accelerate/fsdp-gradients", level="core")
@each(STRATEGIES)
def test_first_gradients_are_those_of_one_process(trained, evidence, reference, spec):
    """Under FSDP every gradient of the first step is as exact as that of one process with the global batch."""
    truth, peer = reference(one_process(spec), "float64"), reference(one_process(spec), "float32")
    for result in trained(spec):
        evidence.check_gradients(result.gradients, truth.gradients, peer.gradients)


@requirement("accelerate/fsdp-training", level="core")
@each(STRATEGIES)
def test_training_follows_one_process(trained, follows, spec):
    """Under each sharding strategy two ranks follow losses, norms after clipping and weights of one process."""
    follows(trained(spec)[0], spec)


@requirement("accelerate/fsdp-wrapping", level="core")
@each(WRAPS)
def test_every_way_to_wrap_trains_alike(trained, follows, evidence, spec):
    """However the model is cut into units, and with flat parameters, FSDP trains as one process."""
    measured = trained(spec)[0]

    if spec.wrap == "size":
        expected = {"lm_head", "model.embed_tokens", "model.layers.0.self_attn", "model.layers.1.mlp.up_proj"}
        evidence.check_equal("wrapped by size", expected - set(measured.details["wrapped"]), set())
    follows(measured, spec)


@requirement("accelerate/fsdp-shards", level="core")
@each(STRATEGIES)
def test_each_rank_holds_its_share(trained, evidence, spec):
    """Each of two ranks keeps half of parameters and optimizer state on its card, or all where nothing is sharded."""
    share = ELEMENTS if spec.strategy == "no_shard" else ELEMENTS // 2
    expected = {
        "elements": share,
        "optimizer elements": share,
        "dtypes": ("torch.float32",),
        "devices": ("npu",),
        "distributed type": "FSDP",
        "backend": "hccl",
    }
    for result in trained(spec):
        evidence.check_equal("facts", {name: result.details[name] for name in expected}, expected)
        units = set(result.details["wrapped"]) - (APART if spec.version == 2 else set())
        evidence.check_equal("units", units, {"", "model.layers.0", "model.layers.1"})


@requirement("accelerate/fsdp-replicas", level="extended")
@pytest.mark.parametrize("version", [1, 2], ids=["fsdp1", "fsdp2"])
def test_replicas_of_shards_train_as_one_process(ranks, follows, evidence, version):
    """On four cards, two replicas of two shards each (HSDP), every rank holds a half and FSDP trains as one process."""
    together = [Fsdp(version=v, replicas=2) for v in (1, 2)]
    measured = ranks(together[version - 1], 4, together=together)

    for result in measured:
        evidence.check_equal("elements", result.details["elements"], ELEMENTS // 2)
    follows(measured[0], together[version - 1])


@requirement("accelerate/fsdp-fused-adamw", level="core")
@each(FUSED)
def test_fused_adamw_trains_as_one_process(trained, follows, spec):
    """With fused AdamW on the shards FSDP trains as one process with AdamW of single operators."""
    follows(trained(spec)[0], spec)


@requirement("accelerate/fsdp-loading", level="core")
@each(LOADED)
def test_weights_of_rank_0_reach_every_rank(trained, follows, evidence, reference, spec):
    """With sync_module_states or cpu_ram_efficient_loading every rank gets exactly rank 0's weights and trains on."""
    given = reference(one_process(spec), "float32").initial_weights
    for result in trained(spec):
        evidence.check_equal("weights before training", result.initial_weights, given)
    follows(result, spec)


@requirement("accelerate/fsdp-activation-checkpointing", level="core")
@each(CHECKPOINTED)
def test_activations_are_recomputed(trained, evidence, reference, spec):
    """With activation checkpointing each layer computes twice a step, with gradients as exact as without it."""
    measured = trained(spec)[0]

    evidence.check_equal("forward passes of a layer", measured.details["forwards"], 2 * spec.steps)
    wrappers = {"OffloadWrapper"} & set(measured.details["wrappers"])
    evidence.check_equal("offloaded", bool(wrappers), spec.activation_offload)
    truth, peer = reference(one_process(spec), "float64"), reference(one_process(spec), "float32")
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)
    evidence.check_curve("training loss", measured.losses, truth.losses)


@requirement("accelerate/fsdp-accumulation", level="core")
@each(ACCUMULATED)
def test_accumulated_gradients_are_those_of_one_process(trained, follows, evidence, reference, spec):
    """Gradients that FSDP accumulates over micro batches are as exact as those of one process with the whole batch."""
    measured = trained(spec)[0]

    truth, peer = reference(one_process(spec), "float64"), reference(one_process(spec), "float32")
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)
    follows(measured, spec)


@requirement("accelerate/fsdp-tied-and-frozen", level="core")
@each(PARTS)
def test_tied_and_frozen_weights_train_as_in_one_process(trained, follows, evidence, reference, spec):
    """With tied embeddings, or a part that is not trained, FSDP trains as one process, and leaves that part alone."""
    measured = trained(spec)[0]

    truth, peer = reference(one_process(spec), "float64"), reference(one_process(spec), "float32")
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)
    follows(measured, spec)
    evidence.check_equal("head apart", "lm_head.weight" in measured.final_weights, spec.kind != "tied")


@requirement("accelerate/fsdp-cpu-offload", level="core")
@each(OFFLOADED)
def test_offloaded_shards_train_as_one_process(trained, follows, evidence, spec):
    """With cpu_offload parameters and optimizer state stay in host memory, and FSDP trains as one process."""
    measured = trained(spec)

    for result in measured:
        evidence.check_equal("devices", result.details["devices"], ("cpu",))
    follows(measured[0], spec)


@requirement("accelerate/fsdp-mixed-precision", level="core")
@pytest.mark.parametrize(
    "spec",
    [pytest.param(spec, id=name, marks=getattr(pytest.mark, spec.precision)) for name, spec in MIXED.items()],
)
def test_mixed_precision_follows_one_process(trained, evidence, reference, spec):
    """In mixed precision FSDP skips no step, keeps float32 weights, and follows the exact losses of one process."""
    measured = trained(spec)[0]

    evidence.check_equal("skipped steps", measured.skipped_steps, ())
    evidence.check_equal("dtypes", measured.details["dtypes"], ("torch.float32",))
    half = {"fp16": "float16", "bf16": "bfloat16"}[spec.precision]
    truth, peer = reference(one_process(spec), "float64"), reference(one_process(spec), half)
    evidence.check_curve("training loss", measured.losses, truth.losses, precision=spec.precision)
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients, precision=spec.precision)


@pytest.mark.bf16
@requirement("accelerate/fsdp-upcast", level="core")
@each(HALF)
def test_a_model_of_16_bits_gets_float32_weights(trained, evidence, reference, spec):
    """A bf16 model in mixed precision is trained on float32 weights, exactly as one that came in float32, with the
    gradients of one process.
    """
    measured, wide = trained(spec)[0], trained(dataclasses.replace(spec, half_weights=False))[0]

    truth, peer = reference(one_process(spec), "float64"), reference(one_process(spec), "bfloat16")
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients, precision=spec.precision)
    evidence.check_equal("dtypes", measured.details["dtypes"], ("torch.float32",))
    evidence.check_equal("losses", measured.losses, wide.losses)
    evidence.check_equal("weights", measured.final_weights, wide.final_weights)


@pytest.mark.fp16
@requirement("accelerate/fsdp-overflow-on-one-rank", level="core")
@each(OVERFLOW)
def test_an_overflow_on_one_rank_skips_the_step_on_all(trained, evidence, reference, spec):
    """When a gradient overflows on one rank, in another's shard, every rank skips the step and halves its scale."""
    truth = reference(one_process(spec), "float64")
    for result in trained(spec):
        scale = result.loss_scales[0]
        evidence.check_equal("skipped steps", result.skipped_steps, (1,))
        evidence.check_equal("loss scales", result.loss_scales, (scale, scale / 2, scale / 2, scale / 2))
        evidence.check_curve("training loss", result.losses, truth.losses, precision="fp16")


@pytest.mark.fp16
@requirement("accelerate/fsdp2-overflow-fused-adamw", level="core")
def test_fused_adamw_skips_a_step_with_overflow_under_fsdp2(trained, evidence):
    """With fused AdamW under FSDP2 a step with overflow is skipped, and the weights stay finite."""
    measured = trained(FUSED_OVERFLOW)[0]

    evidence.check_equal("skipped steps", measured.skipped_steps, (1,))
    finite = {name: bool(weight.isfinite().all()) for name, weight in measured.final_weights.items()}
    evidence.check_equal("finite", finite, dict.fromkeys(finite, True))


@pytest.mark.fp16
@requirement("accelerate/fsdp1-overflow-fused-adamw", level="core")
def test_fused_adamw_skips_a_step_with_overflow_under_fsdp1(trained, evidence):
    """With fused AdamW under FSDP1 a step with overflow is skipped."""
    measured = trained(dataclasses.replace(FUSED_OVERFLOW, version=1))[0]

    evidence.check_equal("skipped steps", measured.skipped_steps, (1,))


@pytest.mark.fp16
@requirement("accelerate/fsdp1-offload-fp16", level="extended")
def test_offloaded_gradients_are_unscaled(trained, evidence, reference):
    """With cpu_offload in fp16 FSDP1 divides gradients by the loss scale, and follows the norms of one process."""
    measured = trained(OFFLOADED_OVERFLOW)[0]
    truth = reference(one_process(OFFLOADED_OVERFLOW), "float64")

    evidence.check_equal("skipped steps", measured.skipped_steps, (1,))
    steps = (0, 2, 3)  # the norm of the one with overflow is infinite
    norms, expected = ([m.gradient_norms[step] for step in steps] for m in (measured, truth))
    evidence.check_curve("gradient norm", norms, expected, precision="fp16")
    evidence.check_curve("training loss", measured.losses, truth.losses, precision="fp16")


@requirement("accelerate/fsdp2-offload-clipping", level="core")
def test_offloaded_gradients_are_clipped(trained, follows):
    """With cpu_offload FSDP2 clips gradients, and trains as one process."""
    spec = Fsdp(offload=True)
    # As accelerate launch sets them.
    launched = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"}

    follows(trained(spec, env=launched)[0], spec)

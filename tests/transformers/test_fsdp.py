"""The Trainer with FSDP on two cards, compared with one process that trains on the global batch."""

import dataclasses
from pathlib import Path

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.fsdp import APART
from fixtures.workloads.fsdp_trainer import FsdpTrainer
from fixtures.workloads.sharded_trainer import ShardedTrainer

pytestmark = [pytest.mark.fsdp, pytest.mark.multi_npu]

ELEMENTS = 112448  # of the model
UNITS = {"", "model.layers.0", "model.layers.1"}
TRAINED = {f"fsdp{version}": FsdpTrainer(version=version) for version in (1, 2)}
CHECKPOINTED = {f"fsdp{version}": FsdpTrainer(version=version, activation_checkpointing=True) for version in (1, 2)}
MIXED = {
    f"fsdp{version}-{precision}": FsdpTrainer(version=version, precision=precision)
    for version in (1, 2)
    for precision in ("fp16", "bf16")
}
TOGETHER = tuple(spec for specs in (TRAINED, CHECKPOINTED, MIXED) for spec in specs.values())


@pytest.fixture
def trained(ranks):
    """trained(spec) -> what each of two ranks measured."""
    return lambda spec: ranks(spec, 2, together=TOGETHER if spec in TOGETHER else ())


def one_process(spec: FsdpTrainer) -> ShardedTrainer:
    """The training of one process that ``spec`` must equal; in full precision, which is the truth of every other."""
    return ShardedTrainer(steps=spec.steps, batch=spec.batch, lr=spec.lr, seed=spec.seed)


def each(specs: dict):
    """Parameters of a test, by the names of the settings."""
    return pytest.mark.parametrize("spec", [pytest.param(spec, id=name) for name, spec in specs.items()])


@requirement("transformers/fsdp-training", level="core")
@each(TRAINED)
def test_the_trainer_follows_one_process(trained, evidence, reference, spec):
    """The Trainer under FSDP shards the model, follows one process, and saves the weights it ends with."""
    measured = trained(spec)
    truth, peer = (reference(one_process(spec), dtype) for dtype in ("float64", "float32"))

    expected = {
        "wrapper": f"FSDP{spec.version}",
        "elements": ELEMENTS // 2,
        "devices": ("npu",),
        "scaler": None,
    }
    for result in measured:
        evidence.check_equal("facts", {name: result.details[name] for name in expected}, expected)
        evidence.check_equal("units", result.details["units"] - (APART if spec.version == 2 else set()), UNITS)
    evidence.check_curve("training loss", measured[0].losses, truth.losses)
    evidence.check_curve("gradient norm", measured[0].gradient_norms, truth.gradient_norms)
    evidence.check_tensors("saved weight", measured[0].final_weights, truth.final_weights, peer.final_weights)


@requirement("transformers/fsdp-activation-checkpointing", level="extended")
@each(CHECKPOINTED)
def test_activation_checkpointing_changes_nothing(trained, evidence, reference, spec):
    """With FSDP's activation checkpointing the Trainer follows losses and norms of one process without it."""
    measured, truth = trained(spec)[0], reference(one_process(spec), "float64")

    evidence.check_curve("training loss", measured.losses, truth.losses)
    evidence.check_curve("gradient norm", measured.gradient_norms, truth.gradient_norms)


@requirement("transformers/fsdp-mixed-precision", level="core")
@pytest.mark.parametrize(
    "spec",
    [pytest.param(spec, id=name, marks=getattr(pytest.mark, spec.precision)) for name, spec in MIXED.items()],
)
def test_mixed_precision_follows_one_process(trained, evidence, reference, spec):
    """The Trainer under FSDP in fp16 and bf16 follows the exact losses of one process."""
    measured, truth = trained(spec)[0], reference(one_process(spec), "float64")

    scalers = {"bf16": None, "fp16": "_ShardedGradScaler" if spec.version == 1 else "GradScaler"}
    evidence.check_equal("scaler", measured.details["scaler"], scalers[spec.precision])
    evidence.check_curve("training loss", measured.losses, truth.losses, precision=spec.precision)
    evidence.check_curve("gradient norm", measured.gradient_norms, truth.gradient_norms, precision=spec.precision)


@pytest.mark.fp16
@requirement("transformers/fsdp1-fp16-default-optimizer", level="core")
def test_the_default_optimizer_trains_in_fp16(trained, evidence, reference):
    """Under FSDP1 in fp16 the Trainer's default optimizer follows the exact losses of one process."""
    spec = dataclasses.replace(MIXED["fsdp1-fp16"], optim="adamw_torch_fused")
    measured, truth = trained(spec)[0], reference(one_process(spec), "float64")

    evidence.check_curve("training loss", measured.losses, truth.losses, precision="fp16")


@pytest.mark.checkpoint
@requirement("transformers/fsdp-resume", level="core")
@pytest.mark.parametrize("version", [1, 2], ids=["fsdp1", "fsdp2"])
@pytest.mark.parametrize("kind", ["FULL_STATE_DICT", "SHARDED_STATE_DICT"], ids=["full", "sharded"])
def test_the_trainer_resumes(ranks, shared_directory, evidence, version, kind):
    """The Trainer goes on from a checkpoint of FSDP, full or sharded, and repeats losses and weights exactly."""
    specs = [
        FsdpTrainer(version=v, state_dict=k, save=str(shared_directory / f"trainer-fsdp{v}-{k}"))
        for v in (1, 2)
        for k in ("FULL_STATE_DICT", "SHARDED_STATE_DICT")
    ]
    # Behind all that save, so that the same ranks can resume.
    resuming = [dataclasses.replace(s, save="", resume=str(Path(s.save) / f"checkpoint-{s.steps // 2}")) for s in specs]
    together = (*specs, *resuming)
    chosen = next(n for n, spec in enumerate(specs) if (spec.version, spec.state_dict) == (version, kind))

    through = ranks(specs[chosen], 2, together=together)[0]
    resumed = ranks(resuming[chosen], 2, together=together)[0]

    half = specs[chosen].steps // 2
    evidence.check_equal("losses", resumed.losses[-half:], through.losses[half:])
    evidence.check_equal("gradient norms", resumed.gradient_norms[-half:], through.gradient_norms[half:])
    evidence.check_equal("weights", resumed.details["weights"], through.details["weights"])
    evidence.check_equal("elements", sum(w.numel() for w in through.details["weights"].values()), ELEMENTS)

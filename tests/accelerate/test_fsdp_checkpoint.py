"""FSDP under accelerate: what is saved, read elsewhere, and resumed from, by as many ranks and by others."""

import sys
from pathlib import Path

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.fsdp import EACH, MODEL, Fsdp, SavedWeights, one_process
from fixtures.workloads.sharded import ShardedSpec

pytestmark = [pytest.mark.fsdp, pytest.mark.multi_npu, pytest.mark.checkpoint]

ONE_PROCESS = ShardedSpec()
STATES = [(1, "full"), (1, "sharded"), (2, "full"), (2, "sharded")]
each_state = pytest.mark.parametrize(
    ("version", "kind"), [pytest.param(*state, id="fsdp{}-{}".format(*state)) for state in STATES]
)
SHARDED = "pytorch_model_fsdp_0"  # accelerate's name for the model's shards in a state


@pytest.fixture
def saved(ranks, shared_directory):
    """saved(version, kind) -> specification and what each of two ranks measured; the files stay for the run."""
    specs = [Fsdp(version=v, state_dict=kind, save=str(shared_directory / f"fsdp{v}-{kind}")) for v, kind in STATES]

    def measure(version: int, kind: str):
        spec = specs[STATES.index((version, kind))]
        return spec, ranks(spec, 2, together=specs)

    return measure


@pytest.fixture
def resumed(ranks, saved):
    """resumed(version, kind, world_size) -> what was saved by two ranks, and what each of the others measured."""

    def measure(version: int, kind: str, world_size: int):
        before = {state: saved(*state) for state in STATES}
        specs = [Fsdp(version=v, state_dict=kind, resume=before[v, kind][0].save) for v, kind in STATES]
        spec = specs[STATES.index((version, kind))]
        return before[version, kind][1][0], ranks(spec, world_size, together=specs)

    return measure


def read(reference, file: Path) -> dict:
    """Weights in a file, as a process without an NPU reads them."""
    return reference(SavedWeights(str(file)), "float32").final_weights


@requirement("accelerate/fsdp-resume", level="core")
@each_state
def test_resumed_training_is_the_uninterrupted_one(saved, evidence, version, kind):
    """Training that goes on from a state saved under FSDP repeats the losses and the weights exactly."""
    spec, ranks = saved(version, kind)

    for measured in ranks:
        details, half = measured.details, spec.steps // 2
        evidence.check_equal("reloaded weights", details["reloaded weights"], details["weights when saved"])
        evidence.check_equal("losses", details["resumed losses"], measured.losses[half:])
        evidence.check_equal("weights", details["resumed weights"], measured.final_weights)


@requirement("accelerate/fsdp-saved-model", level="core")
@each_state
def test_the_saved_model_has_the_weights(saved, reference, evidence, version, kind):
    """What save_model writes under FSDP is, read without an NPU, exactly the weights."""
    spec, (measured, _) = saved(version, kind)

    found = read(reference, Path(spec.save) / MODEL / "model.safetensors")
    evidence.check_equal("weights", found, measured.details["weights when saved"])


@requirement("accelerate/fsdp-full-state", level="core")
@pytest.mark.parametrize("version", [1, 2], ids=["fsdp1", "fsdp2"])
def test_a_full_state_has_the_weights(saved, reference, evidence, version):
    """A full state dict saved under FSDP is, read without an NPU, exactly the weights, of a training that follows one
    process.
    """
    spec, (measured, _) = saved(version, "full")

    found = read(reference, Path(spec.save) / "pytorch_model_fsdp.bin")
    evidence.check_equal("weights", found, measured.details["weights when saved"])
    truth, peer = (reference(one_process(spec), dtype).final_weights for dtype in ("float64", "float32"))
    evidence.check_tensors("weight at the end", measured.final_weights, truth, peer)


@requirement("accelerate/fsdp-merge-weights", level="core")
@pytest.mark.parametrize("version", [1, 2], ids=["fsdp1", "fsdp2"])
def test_merged_shards_are_the_weights(saved, command, reference, evidence, tmp_path, version):
    """What accelerate merge-weights puts together of the shards is, read without an NPU, exactly the weights."""
    spec, (measured, _) = saved(version, "sharded")

    merge = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "merge-weights"]
    command([*merge, Path(spec.save) / SHARDED, tmp_path]).check()
    found = read(reference, tmp_path / "model.safetensors")
    evidence.check_equal("weights", found, measured.details["weights when saved"])


@requirement("accelerate/fsdp-resume-elsewhere", level="core")
@pytest.mark.parametrize("world_size", [1, 2, 4])
@each_state
def test_other_ranks_resume(resumed, reference, evidence, version, kind, world_size):
    """As many new processes as saved a state of FSDP, or others, get exactly its weights and train on as one does."""
    before, ranks = resumed(version, kind, world_size)

    truth, half = reference(ONE_PROCESS, "float64"), ONE_PROCESS.steps // 2
    for measured in ranks:
        weights = measured.details["reloaded weights"]
        evidence.check_equal("reloaded weights", weights, before.details["weights when saved"])
    evidence.check_curve("training loss", measured.losses, truth.losses[half:])
    evidence.check_curve("gradient norm", measured.gradient_norms, truth.gradient_norms[half:])
    peer = reference(ONE_PROCESS, "float32")
    evidence.check_tensors("weight", measured.final_weights, truth.final_weights, peer.final_weights)


@requirement("accelerate/fsdp-files-of-each-rank", level="extended")
@pytest.mark.parametrize("version", [1, 2], ids=["fsdp1", "fsdp2"])
def test_each_rank_can_save_a_file_of_its_own(ranks, evidence, tmp_path, version):
    """Model and optimizer saved with use_dcp=False, a file of each rank, are loaded again exactly."""
    spec = Fsdp(version=version, state_dict="sharded", each_rank=True, save=str(tmp_path / "state"))

    for measured in ranks(spec, 2, fresh=True):
        details, half = measured.details, spec.steps // 2
        weights = details["reloaded from each rank's files"]
        evidence.check_equal("weights", weights, details["weights when saved"])
        evidence.check_equal("losses", details["losses resumed from each rank's files"], measured.losses[half:])
    files = sorted(file.name for file in (tmp_path / "state" / EACH).iterdir())
    names = [f"{of}_0_rank{rank}.bin" for of in ("optimizer", "pytorch_model_fsdp") for rank in (0, 1)]
    evidence.check_equal("files", files, names)

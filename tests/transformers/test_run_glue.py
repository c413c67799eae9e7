"""The training guide's commands: run_glue.py on one card, in full and in mixed precision."""

import sys
from dataclasses import dataclass

import pytest

from fixtures.command import ChildActivity
from fixtures.measured import Measured
from fixtures.options import RUN_GLUE
from fixtures.requirement import requirement
from fixtures.workloads import scripts

pytestmark = [pytest.mark.single_npu, pytest.mark.cli]


@dataclass(frozen=True)
class Finished:
    """A run of the command: its measurements, the files it left, its work on the card, weights it did not move."""

    measured: Measured
    files: frozenset[str]
    npu: ChildActivity
    stayed: list[str]


@pytest.fixture
def run_glue(request, command, local_files, tmp_path):
    """run_glue(*more_arguments) -> Finished: the guide's command line over local files.

    The script is the one of --transformers-examples DIR where given, else the shipped one.
    """
    examples = request.config.getoption("transformers_examples")
    # With a task name, transformers' own script takes the data from a hub and ignores the files.
    script = [examples / RUN_GLUE] if examples else [scripts.RUN_GLUE, "--task_name", "mrpc"]

    def run(*more: str) -> Finished:
        output = tmp_path / "out"
        arguments = scripts.run_glue_arguments(local_files, output)
        completed = command([sys.executable, *script, *arguments, *more], deadline=400).check()
        files = frozenset(path.name for path in output.iterdir() if path.is_file())
        stayed = scripts.unmoved(local_files.model_dir, output)
        return Finished(scripts.run_glue_results(output), files, completed.npu, stayed)

    return run


EXPECTED_FILES = {"config.json", "model.safetensors", "train_results.json", "eval_results.json", "trainer_state.json"}


@requirement("transformers/run-glue", level="core")
def test_run_glue_on_one_card(npu, run_glue, reference, evidence):
    """The guide's run_glue.py command trains and evaluates on one card with the losses that the CPU gets."""
    finished = run_glue()

    expected = reference(scripts.RunGlue(), "float32")
    check(finished, expected, evidence, precision="fp32")
    evidence.check_equal("accuracy", finished.measured.metrics["eval_accuracy"], expected.metrics["eval_accuracy"])


@pytest.mark.fp16
@requirement("transformers/run-glue-fp16", level="core")
def test_run_glue_in_mixed_precision(npu, run_glue, reference, evidence):
    """The guide's run_glue.py command with --fp16 and nothing else follows the CPU's float32 losses."""
    finished = run_glue("--fp16")

    check(finished, reference(scripts.RunGlue(), "float32"), evidence, precision="fp16")


@pytest.mark.fp16
@requirement("transformers/run-glue-fp16-adamw", level="core")
def test_run_glue_in_mixed_precision_with_unfused_adamw(npu, run_glue, reference, evidence):
    """The guide's run_glue.py command with --fp16 and the unfused AdamW follows the CPU's float32 losses."""
    finished = run_glue("--fp16", "--optim", "adamw_torch")

    check(finished, reference(scripts.RunGlue(), "float32"), evidence, precision="fp16")


def check(finished: Finished, expected: Measured, evidence, precision: str) -> None:
    """Files, work on the card, and losses of a run against the reference."""
    evidence.add(metrics=finished.measured.metrics, npu=finished.npu)
    assert finished.files >= EXPECTED_FILES
    assert finished.npu.allocations > 0
    # In half precision a curve that does not fall is within the limits of one that falls as little as this one.
    evidence.check_equal("weights that training left as they were", finished.stayed, [])
    evidence.check_curve("training loss", finished.measured.losses, expected.losses, precision)
    evaluated, wanted = finished.measured.metrics["eval_loss"], expected.metrics["eval_loss"]
    evidence.check_curve("evaluation loss", [evaluated], [wanted], precision)

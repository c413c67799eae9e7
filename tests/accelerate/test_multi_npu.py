"""accelerate on several cards of one machine: its own shipped checks, through accelerate launch."""

import json

import pytest

from fixtures.discovery import version_of
from fixtures.requirement import requirement, unsupported
from fixtures.workloads import hub_files

pytestmark = [pytest.mark.multi_npu, pytest.mark.cli]

SCRIPTS = {
    "test_script": "data loaders, samplers, random numbers and training of one process and of several",
    "test_ops": "gather, reduce, broadcast, pad_across_processes",
    "test_sync": "no_sync and gradient accumulation",
    "test_distributed_data_loop": "uneven data, join_uneven_inputs, dispatch of batches",
    "test_merge_weights": "shards of FSDP1 put together",
}
EXTERNAL = "accelerate.test_utils.scripts.external_deps"  # they load models, data and metrics from a hub
MODEL = [f"--model_name_or_path={hub_files.CLASSIFIER}"]
KNOWN = 0.9  # a share of the rows, which the model knows; one label for all of them would be right for half
# Megabytes, whole ones. Weights, gradients and two moments of the model take 1.6; activations of all steps of the
# training, if they stayed, more than this.
CEILING = 24
# Of the others there, test_ds_multiple_model asks for files of accelerate's repository that are not installed.


@requirement("accelerate/shipped-checks", level="core")
@pytest.mark.parametrize(
    "script", [pytest.param(name, marks=pytest.mark.fsdp if "merge" in name else ()) for name in SCRIPTS]
)
def test_accelerate_passes_its_own_checks(ranks, evidence, script):
    """The scripts with which accelerate verifies itself succeed on two cards under accelerate launch."""
    if script == "test_distributed_data_loop" and version_of("torchdata") is None:
        unsupported("the script needs StatefulDataLoader; pip install torchdata")

    completed = ranks.module(f"accelerate.test_utils.scripts.{script}", launcher="accelerate", deadline=500)

    evidence.add(output=completed.stdout[-3000:])
    completed.check()
    evidence.check_equal("processes that computed on a card", completed.npu.processes, 2)


@pytest.fixture
def hub(tmp_path):
    """A directory in which the scripts find what they load from a hub."""
    hub_files.make(tmp_path)
    return tmp_path


def check_training(ranks, evidence, hub, script: str, *arguments) -> None:
    """One of the scripts in external_deps succeeds on two cards, over a tiny model and local data."""
    __tracebackhide__ = True
    completed = ranks.module(f"{EXTERNAL}.{script}", *arguments, deadline=500, cwd=hub)

    evidence.add(output=completed.stdout[-3000:])
    completed.check()
    evidence.check_equal("processes that computed on a card", completed.npu.processes, 2)


@requirement("accelerate/shipped-checks-of-metrics", level="core")
def test_accelerate_passes_its_own_checks_of_metrics(ranks, evidence, hub):
    """The script test_metrics of accelerate succeeds: all rows are gathered once, however batches are cut."""
    check_training(ranks, evidence, hub, "test_metrics")


@requirement("accelerate/shipped-checks-of-performance", level="extended")
def test_accelerate_passes_its_own_checks_of_performance(ranks, evidence, hub):
    """The script test_performance of accelerate succeeds: the model stays good, its rate ends at 0, and it is saved."""
    arguments = ["--num_epochs=1", f"--performance_lower_bound={KNOWN}", f"--output_dir={hub}"]
    check_training(ranks, evidence, hub, "test_performance", *MODEL, *arguments)

    accuracies = json.loads((hub / "all_results.json").read_text())
    evidence.add(accuracies=accuracies)


@requirement("accelerate/shipped-checks-of-memory", level="extended")
def test_accelerate_passes_its_own_checks_of_memory(ranks, evidence, hub):
    """The script test_peak_memory_usage of accelerate succeeds, and measures what the training must have taken."""
    arguments = [*MODEL, f"--output_dir={hub}", f"--peak_memory_upper_bound={CEILING}"]
    check_training(ranks, evidence, hub, "test_peak_memory_usage", *arguments)

    peak = json.loads((hub / "peak_memory_utilization.json").read_text())["epoch-0"]
    evidence.add(peak_megabytes=peak)
    evidence.check_equal("room for weights, gradients and moments", peak >= 1, True)


@pytest.mark.checkpoint
@requirement("accelerate/shipped-checks-of-checkpoints", level="extended")
def test_accelerate_passes_its_own_checks_of_checkpoints(ranks, evidence, hub):
    """The script test_checkpointing of accelerate succeeds: new ranks get accuracy and rates of the state they load."""
    arguments = [*MODEL, f"--output_dir={hub}"]
    check_training(ranks, evidence, hub, "test_checkpointing", *arguments, "--partial_train_epoch=1")
    check_training(ranks, evidence, hub, "test_checkpointing", *arguments, f"--resume_from_checkpoint={hub}/epoch_0")


@requirement("accelerate/shipped-checks-of-hooks", level="extended")
def test_accelerate_passes_its_own_checks_of_hooks(ranks, evidence):
    """The script with which accelerate verifies hooks that compress gradients succeeds on two cards."""
    completed = ranks.module("accelerate.test_utils.scripts.test_ddp_comm_hook", deadline=300)

    evidence.add(output=completed.stdout[-3000:])
    completed.check()
    evidence.check_equal("processes that computed on a card", completed.npu.processes, 2)


@requirement("accelerate/shipped-checks-of-pipelines", level="extended")
def test_accelerate_passes_its_own_checks_of_pipelines(ranks, evidence):
    """The script with which accelerate verifies pipelines of stages (prepare_pippy) succeeds on two cards."""
    completed = ranks.module(f"{EXTERNAL}.test_pippy", deadline=300)

    evidence.add(output=completed.stdout[-3000:])
    completed.check()
    if "not running tests" in completed.stdout:
        unsupported("accelerate's test_pippy runs on GPUs, XPUs and HPUs alone: there it found none")
    evidence.check_equal("processes that computed on a card", completed.npu.processes, 2)


@pytest.mark.deepspeed
@requirement("accelerate/shipped-checks-of-zero3", level="extended")
def test_accelerate_passes_its_own_checks_of_zero3(ranks, evidence, hub):
    """The script with which accelerate verifies that models are made for ZeRO-3 succeeds on two cards."""
    if version_of("deepspeed") is None:
        unsupported("deepspeed is not installed: pip install deepspeed")

    check_training(ranks, evidence, hub, "test_zero3_integration")


@pytest.mark.host
@requirement("accelerate/notebook-launcher", level="extended")
def test_the_notebook_launcher_starts_ranks(ranks, evidence):
    """The script with which accelerate verifies notebook_launcher, which forks the ranks, succeeds on two cards."""
    script, env = "accelerate.test_utils.scripts.test_notebook", {"ACCELERATE_NUM_PROCESSES": "2"}
    completed = ranks.module(script, launcher="python", env=env, deadline=400)

    evidence.add(output=completed.stdout[-3000:])
    completed.check()
    evidence.check_equal(
        "ranks on a card of their own", [f"npu:{rank}" in completed.stdout for rank in range(2)], [True] * 2
    )

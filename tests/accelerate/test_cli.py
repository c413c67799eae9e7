"""accelerate's command line on one card: env, the guide's configuration file, launch, the self test."""

import json
import re
import sys
from pathlib import Path

import pytest

from fixtures.requirement import requirement
from fixtures.workloads import scripts

pytestmark = [pytest.mark.single_npu, pytest.mark.cli]

# The file that `accelerate config` writes for one card with fp16, as the Ascend guide shows it.
GUIDE_CONFIG = """\
compute_environment: LOCAL_MACHINE
distributed_type: 'NO'
downcast_bf16: 'no'
gpu_ids: all
machine_rank: 0
main_training_function: main
mixed_precision: '{precision}'
num_machines: 1
num_processes: 1
rdzv_backend: static
same_network: true
tpu_env: []
tpu_use_cluster: false
tpu_use_sudo: false
use_cpu: false
"""


@pytest.fixture
def guide_config(tmp_path):
    """guide_config(precision) -> path of the guide's configuration file for one card."""

    def write(precision: str) -> Path:
        path = tmp_path / f"default_config_{precision}.yaml"
        path.write_text(GUIDE_CONFIG.format(precision=precision))
        return path

    return write


@pytest.fixture
def nlp_example(command, local_files, tmp_path):
    """nlp_example(*launcher) -> what the example measured, and under "npu" what it did on the card."""

    def run(*launcher: str) -> dict:
        report = tmp_path / "report.json"
        completed = command(
            [*launcher, scripts.NLP_EXAMPLE, *scripts.nlp_example_arguments(local_files, report)], deadline=400
        ).check()
        return {**json.loads(report.read_text()), "npu": completed.npu}

    return run


def accelerate(*arguments: str) -> list[str]:
    """The accelerate command of this environment."""
    return [sys.executable, "-m", "accelerate.commands.accelerate_cli", *map(str, arguments)]


@pytest.mark.host
@requirement("accelerate/env-reports-the-npu", level="core")
def test_env_reports_the_npu(npu, command, evidence):
    """The output of accelerate env names the NPU as the accelerator of PyTorch."""
    completed = command(accelerate("env"), deadline=200).check()

    evidence.add(env=completed.stdout)
    # Since 1.0 "PyTorch accelerator: NPU"; before, one line for each kind of accelerator.
    assert re.search(r"PyTorch accelerator: NPU|PyTorch NPU available: True", completed.stdout), completed.stdout


@requirement("accelerate/launch", level="core")
@pytest.mark.parametrize(
    "precision", ["no", pytest.param("fp16", marks=pytest.mark.fp16), pytest.param("bf16", marks=pytest.mark.bf16)]
)
def test_launch_trains_on_the_card(npu, nlp_example, reference, guide_config, evidence, precision):
    """The guide's configuration file makes accelerate launch train on the card, as well as the CPU does."""
    launch = accelerate("launch", "--config_file", guide_config(precision))

    measured = nlp_example(*launch)
    expected = reference(scripts.NlpExample(), "float32")

    evidence.add(**{name: value for name, value in measured.items() if name != "losses"})
    assert measured["device_type"] == "npu"
    assert all(device.startswith("npu") for device in measured["parameter_devices"])
    assert measured["num_processes"] == 1
    assert measured["mixed_precision"] == precision
    assert (measured["loss_scale"] is not None) is (precision == "fp16")
    assert measured["npu"].allocations > 0
    evidence.check_curve(
        "training loss", measured["losses"], expected.losses, precision="fp32" if precision == "no" else precision
    )
    assert measured["accuracy"] > 0.9


@requirement("accelerate/self-test", level="core")
def test_accelerate_test_succeeds(npu, command, guide_config, evidence):
    """The command accelerate test succeeds on the card with the guide's configuration."""
    completed = command(accelerate("test", "--config_file", guide_config("no")), deadline=400)

    evidence.add(output=completed.stdout[-3000:])
    completed.check()
    assert "Test is a success" in completed.stdout
    assert re.search(r"Device: npu", completed.stdout), completed.stdout
    assert completed.npu.allocations > 0

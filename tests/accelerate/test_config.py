"""accelerate's configuration files: what is read back from one, and what it writes by default on this machine."""

import sys

import pytest

from fixtures.requirement import requirement

pytestmark = [pytest.mark.single_npu, pytest.mark.cli, pytest.mark.host]

FSDP = {"fsdp_sharding_strategy": "FULL_SHARD", "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "fsdp_version": 1}
DEEPSPEED = {"zero_stage": 2, "gradient_accumulation_steps": 1, "offload_optimizer_device": "none"}
CONFIGURATIONS = {
    "NO": {"distributed_type": "NO", "num_processes": 1},
    "MULTI_NPU": {"distributed_type": "MULTI_NPU", "num_processes": 2, "gpu_ids": "0,1"},
    "FSDP": {"distributed_type": "FSDP", "num_processes": 2, "fsdp_config": FSDP},
    "DEEPSPEED": {"distributed_type": "DEEPSPEED", "num_processes": 2, "deepspeed_config": DEEPSPEED},
}


@pytest.mark.parametrize("kind", CONFIGURATIONS)
@requirement("accelerate/config-round-trip", level="core")
def test_configuration_is_read_back(npu, evidence, tmp_path, kind):
    """A configuration file for one card, several, FSDP and DeepSpeed is read and written without loss."""
    import yaml
    from accelerate.commands.config.config_args import load_config_from_file

    wanted = {"compute_environment": "LOCAL_MACHINE", "mixed_precision": "fp16", **CONFIGURATIONS[kind]}
    source, copy = tmp_path / "source.yaml", tmp_path / "copy.yaml"
    source.write_text(yaml.safe_dump({**wanted, "use_cpu": False, "debug": False}))

    load_config_from_file(str(source)).to_yaml_file(str(copy))

    written = yaml.safe_load(copy.read_text())
    evidence.check_equal("what was asked for", {name: written.get(name) for name in wanted}, wanted)
    evidence.check_equal("use_cpu", load_config_from_file(str(copy)).use_cpu, False)


@requirement("accelerate/config-default", level="core")
def test_default_configuration_uses_the_cards(npu, command, evidence, tmp_path):
    """The command accelerate config default writes a file that uses the NPUs of this machine and not the CPU."""
    import torch
    import yaml

    file = tmp_path / "default.yaml"
    program = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "config", "default", "--config_file", file]

    command([*program, "--mixed_precision", "fp16"]).check()

    written = yaml.safe_load(file.read_text())
    evidence.add(configuration=written)
    cards = torch.npu.device_count()
    kind = "MULTI_NPU" if cards > 1 else "NO"
    wanted = {"use_cpu": False, "mixed_precision": "fp16", "num_processes": cards, "distributed_type": kind}
    evidence.check_equal("configuration", {name: written.get(name) for name in wanted}, wanted)

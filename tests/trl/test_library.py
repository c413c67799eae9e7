"""trl around its trainers: imports, its environment report, and weights for a vLLM server."""

import re
import sys
from types import SimpleNamespace

import pytest

from fixtures.requirement import requirement

pytestmark = [pytest.mark.single_npu, pytest.mark.trl]

IMPORTS = """
import importlib, pkgutil, sys
sys.argv = ["trl"]
import torch, trl

failed = {}
names = [module.name for module in pkgutil.walk_packages(trl.__path__, "trl.", onerror=lambda name: None)]
for name in names:
    if name.endswith("__main__"):
        continue
    try:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", None) or getattr(module, "_import_structure", {}):
            getattr(module, public)
    except Exception as error:
        failed[name] = f"{type(error).__name__}: {error}"
report(modules=len(names), failed=failed, sum=torch.ones(4, device="npu").sum().item())
"""
# Distributions that trl can do without; a module that is about one of them may ask for it.
OPTIONAL = (
    "vllm|diffusers|fastapi|uvicorn|harbor|openreward|openenv|mergekit|llm_blender|weave|deepspeed|liger|requests"
    "|triton"
)


@requirement("trl/imports", level="core")
def test_every_module_imports(npu, probe, evidence):
    """Every module of trl imports where there is an NPU, or asks for a distribution that is not installed."""
    probed = probe(IMPORTS)

    assert probed.returncode == 0, probed.output
    evidence.add(**probed.facts)
    asks = re.compile(OPTIONAL, re.IGNORECASE)
    wrong = {name: error for name, error in probed.facts["failed"].items() if not asks.search(f"{name} {error}")}
    evidence.check_equal("modules that do not import", wrong, {})
    assert probed.facts["modules"] > 60
    assert probed.facts["sum"] == 4


@pytest.mark.host
@pytest.mark.cli
@requirement("trl/env-reports-the-npu", level="core")
def test_env_names_the_card(npu, monkeypatch, capsys, evidence):
    """The output of trl env names the NPU among the accelerators."""
    import torch
    from trl.cli.main import main

    monkeypatch.setattr(sys, "argv", ["trl", "env"])
    main()

    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if "accelerator(s)" in line)
    evidence.add(env=said)
    assert torch.npu.get_device_name(0) in line


@pytest.fixture
def vllm_client(monkeypatch):
    """trl's client for a vLLM server that answers, and the current cards on which it joined the server's group."""
    import torch
    from trl.generation import vllm_client

    joined = []

    def join(*_, **__):
        joined.append(f"npu:{torch.npu.current_device()}")
        return object()

    monkeypatch.setattr(vllm_client, "get_ip", lambda: "127.0.0.1", raising=False)
    monkeypatch.setattr(vllm_client, "NCCLWeightTransferEngine", SimpleNamespace(trainer_init=join), raising=False)
    monkeypatch.setattr(vllm_client, "open_trainer_endpoint", join, raising=False)
    monkeypatch.setattr(vllm_client.atexit, "register", lambda *_: None)
    client = object.__new__(vllm_client.VLLMClient)
    client.base_url, client.group_port = "http://127.0.0.1:8000", 51216
    client.get_server_info = lambda: {"weight_transfer_config": {"backend": "hccl"}}
    client.get_world_size = lambda: 1
    client._post = lambda *_, **__: {}
    return client, joined


@pytest.mark.host
@requirement("trl/vllm-client-on-the-card", level="extended")
@pytest.mark.parametrize("device", ["npu:0", 0])
def test_vllm_client_joins_on_the_card(npu, vllm_client, evidence, device):
    """The client of a vLLM server accepts an NPU, by name or number, and joins the server's group on it."""
    client, joined = vllm_client

    client.init_communicator(device)

    evidence.check_equal("joined on", joined, ["npu:0"])


@pytest.mark.host
@requirement("trl/peak-flops-of-the-card", level="extended")
def test_peak_flops_are_unknown_or_known(npu, evidence):
    """The peak performance that the asynchronous trainers look up is a number for an NPU, or unknown."""
    from accelerate import Accelerator
    from trl.trainer.utils import get_peak_flops_per_device

    flops = get_peak_flops_per_device(Accelerator(), "bfloat16")

    evidence.add(flops=flops)
    assert flops is None or flops > 0

"""Operators of torch_npu's own, which PyTorch's operator samples do not reach."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("program", ["attention_comparison", "fused_comparison", "quantised_comparison"])
@pytest.mark.parametrize("chip", ["Ascend910B3", "Ascend950PR_9599"])
def test_they_compute_what_they_stand_for(emulated, program, chip):
    """Outputs and gradients equal the written-out float64 computation, on chips that call different versions."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))

    run = emulated(
        f"from meta_tests.emulator.{program} import main\nmain()", soc=chip, environment={"PYTHONPATH": path}
    )

    assert run.succeeded().stdout.splitlines()[-1].startswith("0 of "), run.stdout

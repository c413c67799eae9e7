"""Optimizers take the same steps on the emulated card as on the CPU: one by one, over lists of tensors, fused."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from meta_tests.emulator.operator_sweep import child_environment, launcher
from meta_tests.emulator.optimizer_steps import CASES, Case

ROOT = Path(__file__).resolve().parents[2]

RMS_LIMIT = 1.2
"""The card's error over the CPU's, both against float64. Lists and fused steps round elsewhere: up to 1.08."""

MAX_LIMIT = 2.0
"""The same for the worst element; up to 1.28."""

FLOAT32_RMS_LIMIT = 4.0
FLOAT32_MAX_LIMIT = 3.0
"""Of CANN's fused Adam and AdamW in float32: their betas and bias corrections are float32 too, which torch has in
float64. Up to 3.3 and 2.2."""

# What torch_npu refuses, or does otherwise than torch: (the case's name begins so, the error).
REFUSED = [
    (r"SGD-fused-\w+$", r"momentum must be positive, but got 0"),
    # torch_npu's sparse_mask loses elements that are zero, as all of the optimizer's state is at first.
    (r"SparseAdam", r"The size of tensor a \(7\) must match the size of tensor b \(0\)"),
    (r"NpuFused\w+-bfloat16", r"must be either float32 or float16, but received torch.bfloat16"),
]

CASES_OF_ASCEND950 = [case for case in CASES if case.optimizer == "Adam" and case.mode == "fused"]


@dataclass(frozen=True)
class Steps:
    """What a child process printed and called."""

    optimizers: list[str]
    records: dict[str, dict]  # by str(case)
    calls: dict[str, int]


def run(folder: Path, soc: str, cases: str = "") -> Steps:
    """Runs the cases in one child process."""
    log = folder / "log"
    child = subprocess.run(
        [*launcher(), sys.executable, "-m", "meta_tests.emulator.optimizer_steps", cases],
        cwd=ROOT,
        env={**child_environment(log), "NPU_EMULATOR_SOC": soc},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert child.returncode == 0, child.stderr[-3000:]
    lines = [json.loads(line) for line in child.stdout.splitlines() if line.startswith("{")]
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return Steps(
        optimizers=lines[0]["optimizers"],
        records={line["case"]: line for line in lines[1:]},
        calls={entry["call"]: entry["count"] for entry in entries if "call" in entry},
    )


@pytest.fixture(scope="module")
def steps(tmp_path_factory) -> Steps:
    """All cases on an Ascend910B3."""
    return run(tmp_path_factory.mktemp("steps"), "Ascend910B3")


@pytest.fixture(scope="module")
def steps_of_ascend950(tmp_path_factory) -> Steps:
    """Those of an Ascend950, on which torch_npu's fused Adam is CANN's."""
    return run(tmp_path_factory.mktemp("steps"), "Ascend950PR_9599", "Adam-fused")


def check(case: Case, record: dict, in_float32: bool) -> None:
    """Holds the limits that belong to the case."""
    assert "error" not in record, record["error"]
    if case.mode in ("", "loop") and not case.of_torch_npu:
        assert record["equal"], f"not the CPU's bits: {record}"
    exempt = in_float32 and case.dtype == "float32"
    assert record["rms"] <= (FLOAT32_RMS_LIMIT if exempt else RMS_LIMIT), record
    assert record["max"] <= (FLOAT32_MAX_LIMIT if exempt else MAX_LIMIT), record


@pytest.mark.parametrize("case", CASES, ids=str)
def test_steps(case, steps):
    """An optimizer's steps are as near to float64 as the CPU's, or are refused by torch_npu."""
    record = steps.records[str(case)]
    refused = next((error for name, error in REFUSED if re.match(name, str(case))), None)
    if refused:
        assert re.search(refused, record.get("error", "no error")), record
    else:
        check(case, record, in_float32=case.optimizer == "AdamW" and case.mode == "fused")


@pytest.mark.parametrize("case", CASES_OF_ASCEND950, ids=str)
def test_steps_of_ascend950(case, steps_of_ascend950):
    """CANN's fused Adam, which torch_npu takes on an Ascend950, is as near to float64 as float32 betas allow."""
    check(case, steps_of_ascend950.records[str(case)], in_float32=True)


def test_every_optimizer_of_torch_has_a_case(steps):
    """No optimizer of the installed torch is left out."""
    assert set(steps.optimizers) == {case.optimizer for case in CASES if not case.of_torch_npu}


@pytest.mark.parametrize(
    "operator",
    [
        "aclnnApplyAdamWV2",
        "aclnnFusedSgd",
        "aclnnForeachAddListV2",
        "aclnnForeachAddcdivScalarV2",
        "aclnnForeachAddcmulScalarV2",
        "aclnnForeachCopy",
        "aclnnForeachDivScalarList",
        "aclnnForeachLerpScalar",
        "aclnnForeachMulScalarV2",
        "aclnnForeachSqrt",
    ],
)
def test_fused_and_list_operators_are_reached(operator, steps):
    """The modes foreach and fused run the card's own operators, not loops over tensors or the CPU."""
    assert steps.calls.get(operator, 0) > 0


def test_fused_adam_is_taken_on_the_cpu_before_ascend950(steps, steps_of_ascend950):
    """torch_npu calls CANN's fused Adam on an Ascend950 alone."""
    assert steps.calls.get("aclnnFusedAdam", 0) == 0
    assert steps_of_ascend950.calls["aclnnFusedAdam"] > 0

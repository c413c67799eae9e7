"""The real suite on cards that lie: the requirement that a lie breaks turns red, and the others stay green."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

GRADIENTS = "tests/transformers/test_single_npu.py::test_first_gradients_match_the_cpu"
WEIGHTS = "tests/transformers/test_single_npu.py::test_weights_match_the_cpu"
OVERFLOW = "tests/transformers/test_fp16.py::test_overflow_skips_the_step"
LOOP = "tests/accelerate/test_state.py::test_losses_match_the_cpu[no]"
SEED = "tests/runtime/test_discovery.py::test_seed_determines_random_numbers"
ON_TRIAL = (GRADIENTS, WEIGHTS, OVERFLOW, LOOP, SEED)


@pytest.fixture
def outcomes(tmp_path):
    """outcomes(faults) -> outcome by test of a run of ON_TRIAL on a card with these faults, and how often each
    fired.
    """

    def run(faults: str) -> tuple[dict[str, str], dict[str, int]]:
        log = tmp_path / "log.jsonl"
        environment = {**os.environ, "NPU_EMULATOR_FAULTS": faults, "NPU_EMULATOR_LOG": str(log)}
        done = subprocess.run(
            [sys.executable, "-m", "emulator", "pytest", "-n", "0", "--run-dir", tmp_path / "run", *ON_TRIAL],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=500,
        )
        journal = tmp_path / "run" / "journal.jsonl"
        assert journal.exists(), done.stdout + done.stderr
        records = [json.loads(line) for line in journal.read_text().splitlines()]
        fired: dict[str, int] = {}
        for line in log.read_text().splitlines():
            entry = json.loads(line)
            if "fault" in entry:
                fired[entry["fault"]] = fired.get(entry["fault"], 0) + entry["fired"]
        return {record["nodeid"]: record["outcome"] for record in records if record["type"] == "test"}, fired

    return run


@pytest.mark.parametrize(
    ("faults", "caught_by"),
    [
        pytest.param("", set(), id="honest"),
        pytest.param("aclnnMm:scale=1.01", {GRADIENTS, WEIGHTS}, id="products one per cent too large"),
        pytest.param("aclnnForeachNonFiniteCheckAndUnscale:null", {OVERFLOW}, id="overflow not signalled"),
        pytest.param("aclnnForeachAddListV2:null@call=5", {WEIGHTS}, id="one optimizer step dropped"),
        pytest.param("aclnnInplaceNormal:ignore-seed", {SEED}, id="seed ignored"),
        pytest.param("aclnnLayerNorm:output=0,bias=1e-3", {GRADIENTS, WEIGHTS}, id="layer norm off by a little"),
    ],
)
def test_a_lie_turns_its_requirement_red(outcomes, faults, caught_by):
    """A fault of one operator fails the requirements that rest on it and no other."""
    seen, fired = outcomes(faults)

    assert set(seen) == set(ON_TRIAL)
    assert all(count > 0 for count in fired.values()), f"a fault never fired: {fired}"
    assert {test for test, outcome in seen.items() if outcome != "PASS"} == caught_by


def test_a_card_that_does_nothing_passes_nothing(outcomes):
    """On a card whose operators do not execute, no test passes."""
    seen, fired = outcomes("*:null")

    assert fired["*:null"] > 0
    assert [test for test, outcome in seen.items() if outcome == "PASS"] == []

"""Under NPU_EMULATOR_ASYNC=1, where every stream executes on a thread of its own, the suite is green, and missing
synchronisation turns it red. (docs/TRIAL.md says what of the suite was run in this mode; here is what CI can afford.)
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STREAMS = "tests/runtime/test_memory.py"
STEP = "tests/transformers/test_models.py::test_step_matches_the_cpu[llama]"


def outcomes(directory: Path, *tests: str, faults: str = "") -> dict[str, str]:
    """The outcome of each test of the suite that ran in the asynchronous mode, by requirement."""
    done = subprocess.run(
        [sys.executable, "-m", "emulator", "pytest", "-n", "0", "--no-localisation", "--run-dir", directory, *tests],
        cwd=ROOT,
        env={**os.environ, "NPU_EMULATOR_ASYNC": "1", "NPU_EMULATOR_FAULTS": faults},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode in (0, 1, 2), done.stdout[-2000:] + done.stderr[-2000:]
    records = [json.loads(line) for line in (directory / "journal.jsonl").read_text().splitlines()]
    return {record["requirement"]: record["outcome"] for record in records if record["type"] == "test"}


def test_the_suite_is_green(tmp_path):
    """Memory, streams, events, and a model's first step pass when operators are executed behind their launch."""
    found = outcomes(tmp_path / "run", STREAMS, STEP)

    assert len(found) > 8
    assert set(found.values()) == {"PASS"}


@pytest.mark.parametrize(
    ("faults", "red"),
    [
        ("aclrtStreamWaitEvent:null;aclnnAdds:delay=0.05@min-numel=200000", "runtime/streams"),
        ("aclrtSynchronizeStream:null;aclrtMemcpyAsync:delay=0.2@min-numel=1048576", "runtime/pinned-memory"),
    ],
    ids=["dropped wait of a stream", "copy that returns early"],
)
def test_missing_synchronisation_is_caught(tmp_path, faults, red):
    """A wait that is dropped, or a copy that is not there when it is waited for, turns its requirement red.

    Where no copy can be waited for, the question with a known answer before the test may be the first that goes wrong.
    """
    name = {"runtime/streams": "streams", "runtime/pinned-memory": "pinned"}[red]

    assert outcomes(tmp_path / "run", STREAMS, "-k", name, faults=faults)[red] in ("FAIL", "DEVICE_LOST")

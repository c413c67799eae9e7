"""Journals made by hand, with the writer that real runs use."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports import journal
from reports.run import Run, load
from reports.verdict import judge

HEADER = {
    "type": "header",
    "schema": journal.SCHEMA,
    "command": ["-m", "single_npu"],
    "cards": [0],
    "emulated": True,
    "emulator": {"NPU_EMULATOR_CARDS": "1"},
    "versions": {"torch": "2.13.0", "torch_npu": "2.13.0", "transformers": "5.23.0", "deepspeed": None},
    "cann": {},
    "driver": None,
    "environment": {"INF_NAN_MODE_ENABLE": "1"},
    "machine": {"name": "box", "boot": "b0", "id": "m0"},
}
STACK = {"type": "stack", "worker": "gw0", "card": "0", "chip": "Ascend910B3", "torch_npu": "2.13.0", "cann": None}


def planned(requirement: str = "demo/thing", case: str = "", **more: Any) -> dict[str, Any]:
    """What is known of a test before it runs."""
    function = "test_" + requirement.split("/")[1].replace("-", "_")
    nodeid = f"tests/{requirement.split('/')[0]}/test_written.py::{function}{f'[{case}]' if case else ''}"
    return {
        "nodeid": nodeid,
        "requirement": requirement,
        "level": "core",
        "sentence": "A thing works.",
        "library": requirement.split("/")[0],
        "features": ["single_npu"],
        "reproduce": f'python -m emulator pytest -n 0 "{nodeid}"',
        **more,
    }


def ended(outcome: str = "PASS", requirement: str = "demo/thing", case: str = "", **more: Any) -> dict[str, Any]:
    """The record of a test that ended."""
    reason = "" if outcome == "PASS" else "AssertionError: expected: 4\nmeasured: 5"
    plan = planned(requirement, case)
    ended = {"worker": "gw0", "seconds": {"setup": 0.01, "call": 1.5, "teardown": 0.0}, "values": {}, "checks": []}
    return {
        "type": "test",
        **plan,
        "outcome": outcome,
        "reason": reason,
        "waiver": None,
        "findings": [],
        **ended,
        **more,
    }


def timed(seconds: float, peak: int = 0, scatter: float = 0.01, steps: int = 20, workload: str = "Bert()") -> dict:
    """What a test record says of a workload with steps of that length."""
    times = [seconds * (1 + scatter * (-1) ** number * (number % 3)) for number in range(steps)]
    return {"workload": workload, "world_size": 1, "step_seconds": times, "examples_per_step": 16, "peak_bytes": peak}


def check(used: float, name: str = "loss", limit: float | None = 1.0) -> dict:
    """A check that used so much of its limit."""
    return {"check": name, "statistic": "max", "passed": True, "headroom": used, "measured": used, "limit": limit}


def records(
    tests: Sequence[Mapping],
    header: Mapping | None = None,
    plan: Mapping | None = None,
    stack: Mapping | None = None,
) -> list[dict]:
    """All records of a run that executed ``tests``."""
    selection = [{name: test[name] for name in planned()} for test in tests]
    footer = {"type": "footer", "verdict": judge(tests).verdict, "tests": len(tests), "seconds": 2.0, "exit_status": 0}
    return [
        {**HEADER, **(header or {})},
        {"type": "selection", "tests": selection, **(plan or {})},
        {**STACK, **(stack or {})},
        *tests,
        footer,
    ]


def write(path: Path, content: Sequence[Mapping]) -> Path:
    """Writes records, chained, to a journal (a directory gets ``journal.jsonl``). Returns the file."""
    file = path if path.suffix == ".jsonl" else path / journal.FILE_NAME
    writer = journal.Writer(file)
    for record in content:
        writer.append(record)
    writer.close()
    return file


def made(path: Path, *tests: Mapping, **more: Any) -> Path:
    """Writes the complete journal of a run that executed ``tests``. Returns the file."""
    return write(path, records(tests, **more))


def runs(path: Path, *tests: Mapping, **more: Any) -> list[Run]:
    """One run that executed ``tests``, as a side of a comparison."""
    return [load(made(path, *tests, **more))]


def chained(*lines: str) -> str:
    """The text of a journal with those lines, each without its last brace, correctly chained: a forger's journal."""
    before, text = "", ""
    for line in lines:
        before = journal.seal(before, line)
        text += f'{line},"sha256":"{before}"}}\n'
    return text


def forged(*contents: Mapping) -> str:
    """``chained`` from records."""
    return chained(*(json.dumps(content)[:-1] for content in contents))

"""``python -m reports ctrf RUN``: a report in the Common Test Report Format (https://ctrf.io), as JSON.

CTRF knows five statuses; the outcome itself is the test's ``rawStatus``. Waived failures are "other", never "passed".
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from reports import export
from reports.outcome import FAILURES, Outcome
from reports.run import Run
from reports.verdict import CONFORMANT

SPECIFICATION = "0.0.0"  # of ctrf-io/ctrf, whose schema has no other
STATUSES = {
    Outcome.PASS: "passed",
    **dict.fromkeys(FAILURES, "failed"),
    Outcome.NOT_RUN: "skipped",
    Outcome.UNSUPPORTED: "skipped",
    Outcome.XFAIL: "other",
    Outcome.INFRA: "other",
}


def render(run: Run) -> str:
    """The JSON of a run."""
    records = run.all_tests()
    counts = Counter(STATUSES[Outcome(record["outcome"])] for record in records)
    start, stop = (export.milliseconds(time) for time in (export.started(run), export.ended(run)))
    statuses = {status: counts[status] for status in ("passed", "failed", "skipped", "pending", "other")}
    suites = len({record["library"] for record in records})
    times = {"start": start, "stop": stop, "duration": max(stop - start, 0)}
    verdict = run.verdict
    judged = {
        "verdict": verdict.verdict,
        "profile": verdict.profile,
        "requirements": {str(outcome): count for outcome, count in verdict.counts.items()},
        "left open": [*verdict.absent, *verdict.unanswered],
        "waivers out of order": list(verdict.problems),
        "complete": run.complete,
    }
    results = {
        "tool": {"name": "npu-conformance", "version": str(run.header.get("revision") or "unknown")},
        "summary": {"tests": len(records), **statuses, "suites": suites, **times, "extra": judged},
        "tests": [_test(record) for record in records],
        "environment": _environment(run),
    }
    report = {"reportFormat": "CTRF", "specVersion": SPECIFICATION, "generatedBy": "npu-conformance"}
    return json.dumps({**report, "results": results}, indent=1) + "\n"


def _test(record: Mapping[str, Any]) -> dict[str, Any]:
    outcome = Outcome(record["outcome"])
    duration, stop = int(export.seconds(record) * 1000), export.milliseconds(record.get("time"))
    path = record["nodeid"].split("::")[0]
    found = {
        "name": record["nodeid"] or "unnamed",
        "status": STATUSES[outcome],
        "duration": duration,
        "rawStatus": str(outcome),
        "suite": [record["library"], path],
        "tags": list(record["features"]),
        "labels": {"requirement": record["requirement"], "level": record["level"], "sentence": record["sentence"]},
        "filePath": path,
        "extra": {"reproduce": record["reproduce"], "waiver": record.get("waiver"), "checks": record.get("checks", [])},
    }
    if stop:
        found |= {"start": stop - duration, "stop": stop}
    if record["reason"]:
        found["message"] = record["reason"]
    if record.get("log"):
        found["trace"] = record["log"]
    if record.get("worker"):
        found["threadId"] = record["worker"]
    return found


def _environment(run: Run) -> dict[str, Any]:
    facts = export.environment(run)
    place = "EMULATED cards" if run.emulated else "cards"
    named = {
        "reportName": "NPU conformance",
        "appName": "torch_npu",
        "appVersion": facts.get("torch_npu"),
        "commit": facts.get("revision"),
        "osPlatform": "linux",
        "osRelease": run.header.get("kernel"),
        "osVersion": facts.get("os"),
        "testEnvironment": f"{facts['cards']} {place} ({run.chip or 'chip not known'})",
    }
    healthy = run.verdict.verdict == CONFORMANT and run.complete
    return {**{name: str(value) for name, value in named.items() if value}, "healthy": healthy, "extra": facts}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    export.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Writes the JSON."""
    return export.emit(options, render)

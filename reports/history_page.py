"""``python -m reports history DIR``: the trend over all runs beneath a directory, as a page and as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports import page
from reports import run as runs
from reports.errors import ReportError
from reports.files import write_whole
from reports.history import Digest, History, Point, digest, history
from reports.outcome import FAILURES, Outcome

CHANGES = 12  # of the environment that a row of the table of runs names


def load(directory: Path) -> tuple[list[Digest], list[str]]:
    """The digests of all runs beneath a directory, and in words what could not be read.

    Raises:
        ReportError: there is no run that could be read.
    """
    found, left_out = [], []
    for folder in sorted({file.parent for file in directory.rglob("journal*.jsonl")}):
        try:
            found.append(digest(runs.load(folder), str(folder.relative_to(directory))))
        except ReportError as error:
            left_out.append(str(error))
    if not found:
        raise ReportError(
            "\n".join([f"{directory}: no run beneath it that can be read. Give a directory of runs", *left_out])
        )
    return found, left_out


def html(told: History, left_out: Sequence[str], name: str) -> bytes:
    """The page of a history."""
    from reports import plots  # matplotlib takes a second

    points = told.points
    series = [
        (
            "pass_rate",
            "pass_rate_means",
            [None if point.pass_rate is None else 100 * point.pass_rate for point in points],
        ),
        ("headroom", "headroom_means", [None if point.headroom is None else 100 * point.headroom for point in points]),
        ("step_trend", "step_trend_means", [point.time for point in points]),
        ("memory_trend", "memory_trend_means", [point.memory for point in points]),
        ("flaky_trend", "flaky_trend_means", _odd(told)),
    ]
    return page.render(
        "history.html.j2",
        ("history.js",),
        emulated=any(point.digest.emulated for point in points),
        name=name,
        points=points,
        latest=points[-1],
        rows=[_row(number, point) for number, point in reversed(list(enumerate(points, 1)))],
        left_out=left_out,
        trends=[
            (key, means, plots.trend(values)) for key, means, values in series if any(v is not None for v in values)
        ],
        flaky=sum(line.flakiness > 0 for line in told.lines),
        changed=sum(line.changed for line in told.lines),
        list=_list(told),
    )


def as_json(told: History, left_out: Sequence[str]) -> str:
    """The history for programs."""
    value = {
        "schema": 1,
        "left_out": list(left_out),
        "runs": [
            {
                "name": point.digest.name,
                "time": point.digest.header.get("time"),
                "verdict": point.digest.verdict,
                "counts": {outcome.value: count for outcome, count in point.counts.items()},
                **{name: getattr(point, name) for name in ("pass_rate", "headroom", "time", "memory", "environment")},
                "changes": [list(change) for change in point.changes],
            }
            for point in told.points
        ],
        "tests": [
            {
                **{name: getattr(line, name) for name in ("nodeid", "requirement", "flakiness", "changed")},
                "outcomes": [outcome and outcome.value for outcome in line.outcomes],
                "headroom": line.used,
            }
            for line in told.lines
        ],
    }
    return json.dumps(value, indent=1) + "\n"


def _row(number: int, point: Point) -> dict[str, Any]:
    changes = [
        f"{name}: {'–' if old is None else old} → {'–' if new is None else new}" for name, old, new in point.changes
    ]
    failed = sum(count for outcome, count in point.counts.items() if outcome in FAILURES)
    return {
        "number": number,
        "name": point.digest.name,
        "begun": str(point.digest.header.get("time", ""))[:16].replace("T", " "),
        "verdict": point.digest.verdict,
        "complete": point.digest.complete,
        "passed": point.counts.get(Outcome.PASS, 0),
        "waived": point.counts.get(Outcome.XFAIL, 0),
        "failed": failed,
        "tests": sum(point.counts.values()),
        "changes": changes[:CHANGES],
        "more": max(0, len(changes) - CHANGES),
        "time": point.time,
    }


def _odd(told: History) -> list[float | None]:
    """How many tests of each run are known to be flaky and ended otherwise than they mostly do."""
    counts = [0] * len(told.points)
    for line in told.lines:
        if line.flakiness:
            common = max(set(line.outcomes), key=lambda outcome: (outcome is not None, line.outcomes.count(outcome)))
            for number, outcome in enumerate(line.outcomes):
                counts[number] += outcome is not None and outcome != common
    return [float(count) for count in counts]


def _list(told: History) -> dict[str, Any]:
    """What the list of all tests shows, by column; history.js reads it."""
    outcomes = [outcome.value for outcome in Outcome]
    sentences: dict[tuple[str, str], int] = {}
    return {
        "outcomes": outcomes,
        "tones": page.TONES,
        "tests": [line.nodeid for line in told.lines],
        "requirement": [sentences.setdefault((line.requirement, line.sentence), len(sentences)) for line in told.lines],
        "requirements": list(sentences),
        "ends": [
            [-1 if outcome is None else outcomes.index(outcome.value) for outcome in line.outcomes]
            for line in told.lines
        ],
        "used": [
            [None if used is None else float(f"{min(used, 1e9):.3g}") for used in line.used] for line in told.lines
        ],
        "flakiness": [round(line.flakiness, 3) for line in told.lines],
        "changed": [int(line.changed) for line in told.lines],
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("directory", metavar="DIR", type=Path, help="all runs beneath it are taken")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="the page (default: DIR/history.html)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write JSON there, too")


def run(options: argparse.Namespace) -> int:
    """Writes the page; says where, and what it could not read."""
    digests, left_out = load(options.directory)
    told = history(digests)
    output = options.output or options.directory / "history.html"
    write_whole(output, html(told, left_out, str(options.directory)))
    if options.json:
        write_whole(options.json, as_json(told, left_out))
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)  # noqa: T201
    print(output)  # noqa: T201
    return 0

"""``python -m reports compare BASE NEW``: the differences of two sets of runs as Markdown, JSON and a page.

The exit code is 0 without a regression, 1 with one, 2 where the two cannot be compared.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from reports import comparison, journal, page, performance
from reports import run as runs
from reports.comparison import EXIT_CODES, KINDS, REGRESSIONS, Change, Comparison
from reports.files import write_whole
from reports.journal import JournalError
from reports.markdown import escape
from reports.outcome import Outcome
from reports.run import Run

LISTED = 200  # changes of one kind, and rows of a table, that a page or a text has
PLOTS = 60
SMALL_CHANCE = 0.05  # of the sign test; above it nothing is said of it
TONES = {
    **dict.fromkeys((*REGRESSIONS, "exposed", comparison.REGRESSION, performance.SLOWER, "more"), "bad"),
    **dict.fromkeys(("flaky", "waived"), "known"),
    **dict.fromkeys(("fixed", comparison.NO_REGRESSION, performance.FASTER, "less"), "good"),
}


def side(path: Path) -> list[Run]:
    """The runs of one side: a journal or the directory of a run, or a directory that has several of those (repeats).

    Raises:
        JournalError: no run there, or one that cannot be used.
    """
    if not path.is_dir() or any(path.glob("journal*.jsonl")):
        return [runs.load(path)]
    found = sorted({file.parent for file in path.glob("*/journal*.jsonl")})
    if not found:
        raise JournalError(f"{path}: no run there ({journal.FILE_NAME}, or directories that have one)")
    return [runs.load(directory) for directory in found]


def markdown(found: Comparison, names: Sequence[str]) -> str:
    """For a terminal, and for the summary of a CI job."""
    lines = [f"# {found.verdict}", "", f"{escape(names[1])} (NEW) against {escape(names[0])} (BASE)", ""]
    lines += [f"- **not comparable**: {escape(one)}" for one in found.obstacles]
    lines += [f"- note: {escape(one)}" for one in found.notes]
    lines += ["", "## Environment", ""]
    lines += _table(
        ["", "BASE", "NEW"], [[escape(name), escape(old), escape(new)] for name, old, new in found.environment]
    )
    lines += ["## Tests", "", f"{found.stayed} as before; {_counted(found) or 'nothing changed'}.", ""]
    for kind in KINDS:
        of_kind = [change for change in found.changes if change.kind == kind]
        if of_kind:
            lines += [f"### {kind}: {len(of_kind)}", ""]
            rows = [
                [escape(one.requirement), escape(one.nodeid), arrow(one), escape(page.why(one.reason, 1)[:300])]
                for one in of_kind[:LISTED]
            ]
            lines += _table(["requirement", "test", "outcome", "reason"], rows)
    lines += ["## Numeric headroom of passing checks", "", _english(_told_drift(found)), ""]
    if found.drifts:
        rows = [
            [escape(one.requirement), escape(one.check), page.percent(one.before), page.percent(one.after)]
            for one in found.drifts[:20]
        ]
        lines += _table(["requirement", "check", "BASE used of the limit", "NEW"], rows)
    lines += ["## Step time, throughput, memory", "", _english(_told_time(found)), ""]
    if found.speeds:
        lines += _table(
            ["workload", "ranks", "BASE", "NEW", "ratio", "time", "examples/s", "memory"],
            map(_speed_row, found.speeds[:40]),
        )
    return "\n".join(lines)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; its cells are Markdown already."""
    return [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}", *(f"| {' | '.join(row)} |" for row in rows), ""]


def as_json(found: Comparison) -> str:
    """Everything but the curves, for programs."""
    facts = {field.name: getattr(found, field.name) for field in dataclasses.fields(found) if field.name != "pairs"}
    speeds = [{**dataclasses.asdict(one), "ratio": one.ratio} for one in found.speeds]
    value = {
        "schema": 1,
        "verdict": found.verdict,
        "exit_code": EXIT_CODES[found.verdict],
        **_plain({**facts, "speeds": speeds}),
        "time_ratio": found.time_ratio,
        "chance": found.chance,
    }
    return json.dumps(value, indent=1) + "\n"


def html(
    found: Comparison, before: Sequence[Run], after: Sequence[Run], names: Sequence[str], curves: int = PLOTS
) -> bytes:
    """The page of a comparison; the curves of changed and drifted tests are drawn first."""
    from reports import plots  # matplotlib takes a second, which the other outputs need not wait for

    first = [change.nodeid for change in found.changes] + [drift.nodeid for drift in found.drifts]
    place = {nodeid: number for number, nodeid in reversed(list(enumerate(first)))}
    drawn = sorted(found.pairs, key=lambda pair: (place.get(pair.nodeid, len(first)), -_apart(pair)))[:curves]
    kinds = [(kind, [one for one in found.changes if one.kind == kind]) for kind in KINDS]
    return page.render(
        "compare.html.j2",
        (),
        emulated=before[0].emulated or after[0].emulated,
        found=found,
        tone=TONES,
        sides=[
            _side(key, name, runs_) for key, name, runs_ in zip(("base", "new"), names, (before, after), strict=True)
        ],
        kinds=[
            (kind, len(ones), [(one, *map(_outcomes, (one.before, one.after))) for one in ones[:LISTED]])
            for kind, ones in kinds
            if ones
        ],
        drift=_told_drift(found),
        time=_told_time(found),
        slower=len(_slower(found)),
        decides=bool(found.slower),
        drawn=[(pair, plots.curve(pair.after, pair.before)) for pair in drawn],
        left=len(found.pairs) - len(drawn),
        listed=LISTED,
        noise=noise,
    )


def arrow(change: Change) -> str:
    """The outcomes before and after, in words; of several runs how many had which."""
    return " → ".join(
        ", ".join(f"{outcome}{times}" for outcome, times in _outcomes(side)) or "-"
        for side in (change.before, change.after)
    )


def _outcomes(side: Sequence[Outcome]) -> list[tuple[str, str]]:
    counts = Counter(side)
    return [(outcome.value, f" {count}/{len(side)}" if len(side) > 1 else "") for outcome, count in counts.items()]


def _counted(found: Comparison) -> str:
    counts = Counter(change.kind for change in found.changes)
    return ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])


def _told_drift(found: Comparison) -> tuple[str, dict[str, Any]]:
    """A word of the pages, and what it has to be filled with."""
    return "drift_told", {"checks": found.checks, "more": len(found.drifts), "less": len(found.gains)}


def _told_time(found: Comparison) -> tuple[str, dict[str, Any]]:
    if not found.speeds:
        return "no_time_told", {}
    values = {"count": len(found.speeds), "ratio": f"{found.time_ratio:.2f}", "slower": len(_slower(found))}
    chance = found.chance
    return ("chance_told", {**values, "chance": f"{chance:.1g}"}) if chance <= SMALL_CHANCE else ("time_told", values)


def _english(told: tuple[str, dict[str, Any]]) -> str:
    key, values = told
    return page.words()[key][0].format(**values)


def _slower(found: Comparison) -> list[performance.Speed]:
    """Workloads that were slower beyond the scatter, whether that decides or not."""
    return [one for one in found.speeds if one.time == performance.SLOWER]


def _speed_row(one: performance.Speed) -> list[str]:
    throughput = (
        f"{one.throughput_before:.1f} → {one.throughput_after:.1f}"
        if one.throughput_before and one.throughput_after
        else ""
    )
    memory = (
        f"{page.mebibytes(one.bytes_before)} → {page.mebibytes(one.bytes_after)} {one.memory}"
        if one.bytes_after
        else ""
    )
    times = [
        page.milliseconds(one.before),
        page.milliseconds(one.after),
        f"{one.ratio:.2f}",
        f"{one.time} (±{noise(one)})",
    ]
    return [escape(one.workload), str(one.world_size), *times, throughput, memory]


def noise(one: performance.Speed) -> str:
    """The smallest difference that would be one."""
    return f"{one.noise:.0%}" if math.isfinite(one.noise) else "?"


def _apart(pair: comparison.Pair) -> float:
    """How far two curves are apart, relative to their size."""
    apart = [
        abs(a - b) / abs(b)
        for a, b in zip(pair.after.measured, pair.before.measured, strict=False)
        if b and math.isfinite(a - b)
    ]
    return max(apart, default=0.0)


def _side(key: str, name: str, side: Sequence[Run]) -> dict[str, Any]:
    first = side[0]
    return {
        "key": key,
        "name": name,
        "runs": len(side),
        "begun": str(first.header.get("time", ""))[:16].replace("T", " "),
        "verdicts": list(dict.fromkeys(run.verdict.verdict for run in side)),
        "chip": first.chip,
        "versions": {
            n: first.header["versions"].get(n)
            for n in ("torch", "torch_npu", "transformers", "accelerate", "peft", "trl")
        },
    }


def _plain(value: Any) -> Any:
    """A value as JSON knows it."""
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    for name, what in (("base", "what was before"), ("new", "what is compared with it")):
        several = "a journal, the directory of a run, or a directory of the directories of several runs (repeats)"
        parser.add_argument(name, metavar=name.upper(), type=Path, help=f"{what}: {several}")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page there")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write JSON there")
    parser.add_argument(
        "--markdown", metavar="FILE", type=Path, help="write Markdown there instead of to standard output"
    )
    parser.add_argument("--subset", action="store_true", help="it is meant that NEW leaves tests out")


def run(options: argparse.Namespace) -> int:
    """Writes what was asked for; the verdict is the exit code."""
    before, after = side(options.base), side(options.new)
    names = (str(options.base), str(options.new))
    found = comparison.compare(before, after, options.subset)
    if options.html:
        write_whole(options.html, html(found, before, after, names))
    if options.json:
        write_whole(options.json, as_json(found))
    if options.markdown:
        write_whole(options.markdown, markdown(found, names))
        print(found.verdict)  # noqa: T201
    else:
        print(markdown(found, names))  # noqa: T201
    return EXIT_CODES[found.verdict]

"""The end of a run in a terminal: support matrix, failures, waived ones, findings. Pure functions of test records."""

from __future__ import annotations

import io
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from reports.outcome import FAILURES, UNDECIDED, Outcome
from reports.verdict import Verdict, aggregate


def lines(records: Sequence[Mapping], verdict: Verdict, width: int = 120) -> list[str]:
    """The summary, one text line each."""
    return [
        *matrix(records, width),
        *_section("failures", [text for record in records if _is(record, FAILURES) for text in failure(record)]),
        *_section("not decided", _undecided(records)),
        *_section("required and left open", [*verdict.absent, *verdict.unanswered]),
        *_section("waived", _waived(records)),
        *_section("waivers out of order", verdict.problems),
        *_section("findings", _findings(records)),
    ]


def matrix(records: Sequence[Mapping], width: int) -> list[str]:
    """Library by feature: how many requirements passed, of how many that ran; what else there is beside it."""
    libraries = sorted({record["library"] for record in records})
    features = sorted({feature for record in records for feature in record["features"]})
    table = Table(box=None, pad_edge=False, header_style="", title_style="")
    table.add_column("requirements")
    for feature in (*features, "all"):
        table.add_column(feature.replace("_", " "), justify="right")
    for library in libraries:
        own = [record for record in records if record["library"] == library]
        cells = [_cell([record for record in own if feature in record["features"]]) for feature in features]
        table.add_row(library, *cells, _cell(own))
    console = Console(file=io.StringIO(), width=max(width, 60), color_system=None, highlight=False)
    console.print(table)
    return console.file.getvalue().rstrip("\n").split("\n") if libraries else []


def _cell(records: Sequence[Mapping]) -> str:
    tests: dict[str, list[Outcome]] = {}
    for record in records:
        tests.setdefault(record["requirement"], []).append(Outcome(record["outcome"]))
    counts = Counter(aggregate(outcomes) for outcomes in tests.values())
    if not counts:
        return "-"
    passed, ran = counts[Outcome.PASS], sum(counts.values()) - counts[Outcome.UNSUPPORTED]
    notes = [
        (sum(counts[outcome] for outcome in FAILURES), "failed"),
        (counts[Outcome.XFAIL], "waived"),
        (sum(counts[outcome] for outcome in UNDECIDED), "open"),
    ]
    return "\n".join([f"{passed}/{ran}", *(f"{count} {word}" for count, word in notes if count)])


def failure(record: Mapping) -> list[str]:
    """Everything a reader needs to act on one failed test."""
    text = record["reason"].strip().splitlines() or [""]
    body = [line.strip() for line in text if not line.strip().startswith(("requirement:", "reproduce:"))]
    return [
        f"{record['outcome']} {record['requirement']}: {record['sentence']}",
        *(f"    {line}" for line in body[:12] if line),
        f"    reproduce: {record['reproduce']}",
    ]


def _undecided(records: Sequence[Mapping]) -> list[str]:
    reasons = Counter(
        (record["outcome"], record["reason"].strip().splitlines()[0]) for record in records if _is(record, UNDECIDED)
    )
    return [f"{outcome} {count} test{'s' * (count != 1)}: {reason}" for (outcome, reason), count in reasons.items()]


def _waived(records: Sequence[Mapping]) -> list[str]:
    found: dict[tuple[str, str], tuple[Mapping, list[str]]] = {}
    for record in records:
        waiver = record.get("waiver")
        if record["outcome"] == Outcome.XFAIL and waiver:
            found.setdefault((waiver["defect"], waiver["reason"]), (waiver, []))[1].append(record["requirement"])
    return [
        line
        for (defect, reason), (waiver, requirements) in sorted(found.items(), key=lambda item: item[0])
        for line in (
            f"{defect} in {', '.join(dict.fromkeys(requirements))} (until {waiver['expires']})",
            *textwrap.wrap(reason, 110, initial_indent="    ", subsequent_indent="    "),
            f"    {waiver['link']}",
        )
    ]


def _findings(records: Sequence[Mapping]) -> list[str]:
    found: dict[tuple, list[str]] = {}
    for record in records:
        for finding in record.get("findings", ()):
            facts = ", ".join(f"{value}" for name, value in finding.items() if name != "kind")
            found.setdefault((finding["kind"], facts), []).append(record["requirement"])
    return [f"{kind}: {facts} [{', '.join(dict.fromkeys(ids))}]" for (kind, facts), ids in sorted(found.items())]


def _section(title: str, content: list[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {line}" for line in content)] if content else []


def _is(record: Mapping, outcomes: frozenset) -> bool:
    return Outcome(record["outcome"]) in outcomes

"""The end of a run in a terminal: support matrix, failures, waived ones, findings. Pure functions of test records."""

from __future__ import annotations

import io
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from reports.matrix import Cell, support
from reports.outcome import FAILURES, UNDECIDED, Outcome
from reports.verdict import Verdict

LISTED = 30  # required requirements without an answer that the terminal lists


def lines(records: Sequence[Mapping], verdict: Verdict, width: int = 120) -> list[str]:
    """The summary, one text line each."""
    return [
        *matrix(records, width),
        *_section("failures", [text for record in records if _is(record, FAILURES) for text in failure(record)]),
        *_section("not decided", _undecided(records)),
        *_section("required and left open", _shortened([*verdict.unanswered, *verdict.absent])),
        *_section("waived", _waived(records)),
        *_section("waivers out of order", verdict.problems),
        *_section("findings", _findings(records)),
    ]


def matrix(records: Sequence[Mapping], width: int) -> list[str]:
    """Library by feature: how many requirements passed, of how many that ran; what else there is beside it.

    Where the features do not fit side by side, they stand one below the other.
    """
    found = support(records)
    if not found.rows:
        return []
    console = Console(file=io.StringIO(), width=max(width, 60), color_system=None, highlight=False, markup=False)
    rows = [["requirements", *(feature.replace("_", " ") for feature in found.features), "all"]]
    rows += [[library, *(_cell(row.get(f)) for f in (*found.features, None))] for library, row in found.rows.items()]
    wide = _table(rows)
    fits = Console(width=10_000).measure(wide).maximum <= console.width
    console.print(wide if fits else _table(list(zip(*rows, strict=True))))
    return [line.rstrip() for line in console.file.getvalue().rstrip("\n").split("\n")]


def _table(rows: Sequence[Sequence[str]]) -> Table:
    """The first row is the head, the first column names the rows."""
    table = Table(box=None, pad_edge=False, header_style="", title_style="")
    for place, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if place else "left")
    for row in rows[1:]:
        table.add_row(*row)
    return table


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    notes = [f"{count} {word}" for word in ("failed", "waived", "open") if (count := getattr(cell, word))]
    return "\n".join([f"{cell.passed}/{cell.ran}", *notes])


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
            if finding["kind"] == "localised":  # stands in the failure's message
                continue
            facts = ", ".join(f"{value}" for name, value in finding.items() if name != "kind")
            found.setdefault((finding["kind"], facts), []).append(record["requirement"])
    return [f"{kind}: {facts} [{', '.join(dict.fromkeys(ids))}]" for (kind, facts), ids in sorted(found.items())]


def _shortened(entries: Sequence[str]) -> list[str]:
    more = [f"and {len(entries) - LISTED} more"] if len(entries) > LISTED else []
    return [*entries[:LISTED], *more]


def _section(title: str, content: list[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {line}" for line in content)] if content else []


def _is(record: Mapping, outcomes: frozenset) -> bool:
    return Outcome(record["outcome"]) in outcomes

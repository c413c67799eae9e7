"""``python -m reports markdown RUN``: the summary of a CI job, such as GitHub's ($GITHUB_STEP_SUMMARY), in Markdown.

Everything that comes from a journal is escaped: it can neither format, link, mention, nor bring markup of its own.
"""

from __future__ import annotations

import argparse
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reports import export, matrix
from reports.matrix import Cell
from reports.outcome import FAILURES, UNDECIDED, Outcome
from reports.run import Run
from reports.verdict import CONFORMANT, NOT_CONFORMANT, verdict_line

LISTED = 50  # entries of a list; a summary of GitHub's takes a megabyte in all
LONGEST = 2000  # characters of one reason
SIGNS = {CONFORMANT: "✅", NOT_CONFORMANT: "❌"}


def render(run: Run) -> str:
    """The Markdown of a run."""
    records, verdict = run.all_tests(), run.verdict
    line = verdict_line(verdict, {**run.header, "chip": run.chip}).removeprefix("verdict: ")
    failed = [record for record in records if Outcome(record["outcome"]) in FAILURES]
    undecided = [record for record in records if Outcome(record["outcome"]) in UNDECIDED]
    parts = [
        f"## {SIGNS.get(verdict.verdict, '⚠️')} {escape(line)}",
        "> **EMULATED cards**: nothing here is about the kernels or the speed of real ones." if run.emulated else "",
        "> **The run was killed before its end.**" if run.interrupted else "",
        _table(records),
        *_list("Failures", [_failure(record) for record in failed]),
        *_list("Required and left open", [escape(text) for text in (*verdict.absent, *verdict.unanswered)]),
        *_list("Waivers out of order", [escape(text) for text in verdict.problems]),
        *_list("Waived", _waived(records), folded=True),
        *_list("Not decided", [_short(record) for record in undecided], folded=True),
        *_list("Environment", [f"{escape(k)}: {escape(v)}" for k, v in export.environment(run).items()], folded=True),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: Any) -> str:
    """A text as Markdown and HTML show it literally, on one line."""
    flat = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]()#+!|~$-])", r"\\\1", html.escape(flat, quote=False)).replace("@", "&#64;")


def _table(records: Sequence[Mapping]) -> str:
    support = matrix.support(records)
    columns = (*support.features, None)
    head = "| requirements | " + " | ".join(escape(f.replace("_", " ") if f else "all") for f in columns) + " |"
    rule = "| --- |" + " ---: |" * len(columns)
    lines = [
        f"| {escape(library)} | " + " | ".join(_cell(row.get(feature)) for feature in columns) + " |"
        for library, row in support.rows.items()
    ]
    return "\n".join([head, rule, *lines]) if lines else ""


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    notes = [f"{getattr(cell, name)} {name}" for name in ("failed", "waived", "open") if getattr(cell, name)]
    return "<br>".join([f"**{cell.passed}/{cell.ran}**", *notes])


def _failure(record: Mapping[str, Any]) -> str:
    reason = record["reason"].strip()[:LONGEST]
    told = f"{_short(record)}\n\n{_block(reason)}\n\n  reproduce:\n\n{_block(record['reproduce'])}"
    return told + "\n"


def _short(record: Mapping[str, Any]) -> str:
    first = (record["reason"].strip().splitlines() or [""])[0][:200]
    said = "" if Outcome(record["outcome"]) in FAILURES else f": {escape(first)}"
    return f"**{escape(record['outcome'])}** {escape(record['requirement'])} – {escape(record['sentence'])}{said}"


def _waived(records: Sequence[Mapping]) -> list[str]:
    found: dict[tuple, list[str]] = {}
    for record in records:
        waiver = record.get("waiver")
        if record["outcome"] == Outcome.XFAIL and waiver:
            key = tuple(str(waiver.get(name)) for name in ("defect", "reason", "link", "expires"))
            found.setdefault(key, []).append(record["requirement"])
    return [
        f"**{escape(defect)}** in {escape(', '.join(dict.fromkeys(ids)))}: {escape(reason)} – {escape(link)} "
        f"(until {escape(expires)})"
        for (defect, reason, link, expires), ids in sorted(found.items())
    ]


def _block(text: str) -> str:
    """An indented code fence that the text cannot end."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
    return "\n".join(f"  {line}" for line in [fence, *text.splitlines(), fence])


def _list(title: str, entries: Sequence[str], folded: bool = False) -> Iterable[str]:
    if not entries:
        return []
    lines = [f"- {entry}" for entry in entries[:LISTED]]
    if len(entries) > LISTED:
        lines.append(f"- and {len(entries) - LISTED} more")
    body = "\n".join(lines)
    if folded:
        return [f"<details><summary>{title} ({len(entries)})</summary>\n\n{body}\n\n</details>"]
    return [f"### {title} ({len(entries)})", body]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    export.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Writes the Markdown."""
    return export.emit(options, render)

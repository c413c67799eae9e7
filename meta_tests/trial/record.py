"""The shipped record of the trial, docs/trial.json: what each fault turned red, when, on which revision of the suite.

Nobody holds the whole trial after every change. So a trial of some faults replaces what the record says of these, and
a row tells of which fault it speaks: one whose line has changed since is as good as not judged. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from meta_tests.generated import between
from meta_tests.trial.catalogue import LOUD, Fault

FILE = Path(__file__).parents[2] / "docs" / "trial.json"
PAGE = Path(__file__).parents[2] / "docs" / "TRIAL.md"
BEGIN, END = "<!-- of docs/trial.json, by python -m meta_tests.trial record -->", "<!-- end -->"
SCHEMA = 1
MEASURED = ("noise", "limits", "localisation")  # what else a trial may have left beside its matrix


def read(file: Path = FILE) -> dict:
    """The record, or an empty one."""
    if not file.exists():
        return {"schema": SCHEMA, "versions": {}, "faults": [], **dict.fromkeys(MEASURED)}
    return json.loads(file.read_text(encoding="utf-8"))


def row_of(judged: Mapping, made: str, revision: str) -> dict:
    """What the record keeps of a fault. ``judged``: its row in the trial's report."""
    cells = judged["cells"]
    return {
        **{name: judged[name] for name in ("id", "family", "line", "patch", "status", "fired", "cpu")},
        "loud": judged["family"] in LOUD,
        "judged": made,
        "revision": revision,
        # Turned red by the test itself, in seconds; the question with a known answer is no requirement's merit.
        "caught": {
            id: cell["after"]
            for id, cell in cells.items()
            if cell["killed"] and cell["called"] and cell["outcome"] != "DEVICE_LOST"
        },
        "refused": [
            id
            for id, cell in cells.items()
            if cell["killed"] and not (cell["called"] and cell["outcome"] != "DEVICE_LOST")
        ],
        "passed": [id for id, cell in cells.items() if not cell["killed"]],
        "missed": list(judged["missed"]) if judged["status"] != "killed" else [],
    }


def current(record: Mapping, faults: Iterable[Fault]) -> dict[str, Mapping]:
    """By fault's id: its row, where it speaks of the fault as the catalogue has it now."""
    rows = {row["id"]: row for row in record["faults"]}
    told = {fault.id: (fault.line, fault.patch) for fault in faults}
    return {id: rows[id] for id, words in told.items() if id in rows and (rows[id]["line"], rows[id]["patch"]) == words}


def updated(record: Mapping, report: Mapping, faults: Sequence[Fault]) -> dict:
    """The record with the rows of a report in place of those that it had, in the catalogue's order.

    Args:
        record: as ``read`` gives it.
        report: of a trial (targeted.report).
        faults: the whole catalogue; of others nothing is kept.
    """
    rows = {row["id"]: row for row in record["faults"]}
    rows |= {one["id"]: row_of(one, report["made"], report["revision"]) for one in report["faults"]}
    kept = [_as_asked(rows[fault.id], fault) for fault in faults if fault.id in rows]
    return {**record, "versions": report["versions"], "faults": kept}


def _as_asked(row: Mapping, fault: Fault) -> dict:
    """The row, without what is no longer asked of the fault: a requirement that cannot see it was no miss."""
    missed = [entry for entry in row["missed"] if entry in fault.requirements]
    dropped = row["status"] == "missed" and not missed
    return {**row, "status": "killed" if dropped else row["status"], "missed": missed}


def text(record: Mapping) -> str:
    """The file: JSON, a fault on a line."""
    rows = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in record["faults"])
    rest = {name: value for name, value in record.items() if name != "faults"}
    return json.dumps(rest, indent=1, ensure_ascii=False)[:-2] + f',\n "faults": [\n{rows}\n ]\n}}\n'


def _head(*columns: str) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]


def by_family(record: Mapping, families: Iterable[str], faults: Sequence[Fault]) -> list[str]:
    """The lines of a table in Markdown: faults of each family, how many were judged, fired, and were killed."""
    rows = current(record, faults)
    lines = [
        "| family | faults | judged | fired | killed | explained survivors |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    total = [0] * 5
    for family in families:
        own = [fault for fault in faults if fault.family == family]
        judged = [rows[fault.id] for fault in own if fault.id in rows]
        explained = {fault.id for fault in own if fault.survives}
        counts = [
            len(own), len(judged), sum(row["fired"] > 0 for row in judged),
            sum(row["status"] == "killed" for row in judged),
            sum(row["status"] != "killed" and row["id"] in explained for row in judged),
        ]  # fmt: skip
        total = [a + b for a, b in zip(total, counts, strict=True)]
        lines.append(f"| {family} | {' | '.join(map(str, counts))} |")
    return [*lines, f"| **all** | {' | '.join(f'**{count}**' for count in total)} |"]


def of_noise(noise: Mapping) -> list[str]:
    """Specificity and sensitivity under noise."""
    lines = [
        "| noise on honest cards | runs | green | tests in a run | false alarms |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in noise["clean"]:
        alarms = ", ".join(f"{test} ({count})" for test, count in one["alarms"].items()) or "none"
        ends = dict.fromkeys(one.get("seeds", ()))
        seeds = f" (seed{'s' * (len(ends) > 1)} {' to '.join(map(str, ends))})" if ends else ""
        lines.append(
            f"| `{one['noise']}`: {one['what']} | {one['runs']}{seeds} | {one['green']} | {one['tests']} | {alarms} |"
        )
    if noise["families"]:
        green = noise["clean"][-1]["families"]
        runs = noise["clean"][-1]["runs"]
        lines += ["", f"Faults injected again into cards with the noise `{noise['under']}`:", ""]
        lines += _head("family", "faults", "killed under noise", "sensitivity", "green runs of honest noisy cards")
        for family, one in noise["families"].items():
            share = f"{100 * one['killed'] / one['faults']:.0f} %"
            clean = f"{green[family]} of {runs}" if family in green else "–"
            lines.append(f"| {family} | {one['faults']} | {one['killed']} | {share} | {clean} |")
    return lines


def of_limits(limits: Mapping) -> list[str]:
    """Detection limits."""
    lines = ["| every result of | smallest factor caught | largest that passed | by |", "| --- | --- | --- | --- |"]
    for one in limits["limits"]:
        caught = ", ".join(f"`{id}`" for id in one["by"])
        lines.append(f"| {one['name']} | {one['caught']} | {one['passed']} | {caught} |")
    return lines


def of_localisation(found: Mapping) -> list[str]:
    """How often the faulty operator was named, by family, and where it was not; of what ``shortened`` gives."""
    lines = [
        f"Of {found['faults']} silent faults of operators of one card, {found['killed']} made the comparison of a "
        f"training fail; the faulty operator was named for **{found['named']} of {found['killed']}** "
        f"({100 * found['named'] / max(found['killed'], 1):.0f} %).",
        "",
        *_head("family", "shown by a training", "named", "by one function of CANN alone", "reproduced by the snippet"),
    ]
    for family, one in found["families"].items():
        lines.append(f"| {family} | {one['killed']} | {one['named']} | {one['alone']} | {one['reproduced']} |")
    if found["found"]:
        lines += ["", *_head("not named", "what was said", "by")]
        for one in found["found"]:
            said = one["operator"] or one["said"]
            lines.append(f"| `{one['fault']}` | {one['status']}: {said} | `{one['test'].partition('::')[2]}` |")
    silent = {"No training showed": found["passed"], "No training calls what is wrong under": found["uncalled"]}
    for words, ids in silent.items():
        if ids:
            lines += ["", f"{words}: {', '.join(f'`{id}`' for id in ids)}."]
    return lines


def shortened(name: str, measured: Mapping) -> Mapping:
    """What the record keeps of a measurement: of the operators that were named right, their names alone."""
    if name != "localisation":
        return measured
    right = {one["fault"]: one["operator"] for one in measured["found"] if one["status"] == "named"}
    return {**measured, "found": [one for one in measured["found"] if one["status"] != "named"], "right": right}


def tables(record: Mapping, families: Iterable[str], faults: Sequence[Fault]) -> str:
    """What docs/TRIAL.md says of the record."""
    rows = current(record, faults)
    stack = ", ".join(f"{name} {version}" for name, version in record["versions"].items() if version)
    dates = sorted({row["judged"][:10] for row in rows.values()})
    hours = sum(row["cpu"] for row in rows.values()) / 3600
    when = " to ".join(dict.fromkeys([dates[0], dates[-1]])) if dates else "nothing yet"
    parts = [f"Judged on emulated cards: {when}, in {hours:.1f} hours of processor time.", f"With {stack}."]
    parts += ["\n".join(by_family(record, families, faults))]
    left = [fault for fault in faults if fault.id in rows and rows[fault.id]["status"] != "killed"]
    for fault in left:
        row = rows[fault.id]
        missed = f" (by {', '.join(row['missed'])})" if row["status"] == "missed" else ""
        why = fault.survives or "not explained yet."
        parts.append(f"- `{fault.id}`, {row['status']}{missed}: {fault.lie} {why}")
    if record.get("noise"):
        parts.append("\n".join(["### Noise", "", *of_noise(record["noise"])]))
    if record.get("limits"):
        parts.append("\n".join(["### Detection limits", "", *of_limits(record["limits"])]))
    if record.get("localisation"):
        parts.append("\n".join(["### The operator that is named", "", *of_localisation(record["localisation"])]))
    return "\n\n".join(part for part in parts if part)


def page(old: str, record: Mapping, families: Iterable[str], faults: Sequence[Fault]) -> str:
    """docs/TRIAL.md with the tables of this record.

    Raises:
        ValueError: the page has no place for them.
    """
    return between(old, BEGIN, END, f"\n\n{tables(record, families, faults)}\n\n", "docs/TRIAL.md")

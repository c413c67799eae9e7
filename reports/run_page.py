"""``python -m reports html RUN``: a run as one self-contained page.

What a reader needs at once (verdict, provenance, matrix, failures, waivers) is in the markup and is readable without
JavaScript. The list of all tests is data: one row each, and the details packed in parts of PART tests, of which a
browser unpacks the one whose test is opened. So a page of 100,000 tests is still usable.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reports import measurements, page
from reports import run as runs
from reports.files import write_whole
from reports.matrix import Cell, support
from reports.measurements import LARGEST, Headroom
from reports.outcome import FAILURES, UNDECIDED, Outcome
from reports.run import Run
from reports.verdict import SEVERITY

PLOTS = 150  # curves that are drawn, unless told otherwise; each takes about 30 ms
PART = 64  # tests in a packed part
LISTED = 100  # failures, and waived tests of a defect, that stand in the markup
CLOSEST = 12
SPEEDS = 40  # workloads
NAMED = ("torch", "torch_npu", "transformers", "accelerate", "peft", "trl", "deepspeed")
LARGEST_VALUES = 20_000  # characters of a test's values that a page carries


def html(run: Run, curves: int = PLOTS) -> bytes:
    """The page of a run. ``curves``: how many are drawn at most, of failed tests first, then closest to a limit."""
    records = sorted(run.all_tests(), key=lambda record: (SEVERITY.index(Outcome(record["outcome"])), record["nodeid"]))
    least = [measurements.least_headroom(record) for record in records]
    closest = [(record, found) for record, found in zip(records, least, strict=True) if found]
    drawn = _drawn(records, least, curves)
    outcomes = Counter(record["outcome"] for record in records)
    matrix = support(records)
    header = run.header
    return page.render(
        "run.html.j2",
        ("run.js",),
        emulated=run.emulated,
        verdict=run.verdict,
        header=header,
        begun=str(header.get("time", ""))[:16].replace("T", " "),
        cards=sum(len(journal.header["cards"]) for journal in run.journals[:1]),
        chip=run.chip,
        cann=(header.get("cann") or {}).get("version"),
        overflow=next((stack["overflow_mode"] for stack in run.stacks if stack.get("overflow_mode")), None),
        duration=_duration(run),
        killed=not run.complete,
        libraries=NAMED,
        provenance=_provenance(run),
        counts=[(outcome.value, outcomes[outcome]) for outcome in Outcome if outcomes[outcome]],
        total=len(records),
        features=matrix.features,
        matrix=[(library, _cells(row, matrix.features)) for library, row in matrix.rows.items()],
        problems=[
            _problems("failures", "bad", [record for record in records if record["outcome"] in FAILURES]),
            _problems("not_decided", "open", [record for record in records if record["outcome"] in UNDECIDED]),
        ],
        defects=_defects(records),
        fallbacks=_fallbacks(records),
        closest=sorted((pair for pair in closest if pair[1].used <= 1), key=lambda pair: -pair[1].used)[:CLOSEST],
        speed=_speed(records),
        choices=_choices(records, matrix.features),
        list=_list(records, least),
        parts=[_packed(records[start : start + PART], drawn) for start in range(0, len(records), PART)],
    )


def _cells(row: Mapping[str | None, Cell], features: Sequence[str]) -> list[tuple[str, dict | None]]:
    return [(feature or "", _cell(row[feature]) if feature in row else None) for feature in (*features, None)]


def _cell(cell: Cell) -> dict[str, Any]:
    notes = [
        (count, key) for count, key in ((cell.failed, "failed"), (cell.waived, "waived"), (cell.open, "open")) if count
    ]
    tones = {"failed": "bad", "waived": "known", "open": "open"}
    tone = tones[notes[0][1]] if notes else "good" if cell.passed else "open"
    return {"passed": cell.passed, "ran": cell.ran, "notes": notes, "tone": tone}


def _problems(key: str, tone: str, records: list[Mapping]) -> tuple[str, str, list[dict], int]:
    shown = [{**record, "why": page.why(record["reason"])} for record in records[:LISTED]]
    return key, tone, shown, max(0, len(records) - LISTED)


def waiver_of(record: Mapping) -> dict[str, Any] | None:
    """The waiver of a test, as the page shows it; only a link to the web is one that can be followed."""
    found = record.get("waiver")
    if not isinstance(found, Mapping):
        return None
    link = str(found.get("link") or "")
    return {
        "defect": str(found.get("defect") or "?"),
        "reason": str(found.get("reason") or ""),
        "link": link if link.startswith(("https://", "http://")) else "",
        "expires": str(found.get("expires") or ""),
        "owner": str(found.get("owner") or ""),
    }


def _defects(records: Sequence[Mapping]) -> list[dict]:
    """What was waived, by defect and reason, each with the first test of every requirement."""
    found: dict[tuple[str, str], dict] = {}
    for record in records:
        waiver = waiver_of(record)
        if record["outcome"] == Outcome.XFAIL and waiver:
            entry = found.setdefault((waiver["defect"], waiver["reason"]), {**waiver, "tests": {}})
            entry["tests"].setdefault(record["requirement"], record["nodeid"])
    listed = [found[key] for key in sorted(found, key=lambda key: (_natural(key[0]), key[1]))]
    for entry in listed:
        tests = [(nodeid, requirement) for requirement, nodeid in entry["tests"].items()]
        entry.update(tests=tests[:LISTED], more=max(0, len(tests) - LISTED))
    return listed


def _natural(text: str) -> list[tuple[int, int, str]]:
    """A key by which D2 comes before D10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text)]


def _fallbacks(records: Sequence[Mapping]) -> list[tuple[str, int, list, bool]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for record in records:
        for operator in measurements.fallbacks(record):
            found.setdefault(operator, []).append((record["nodeid"], record["requirement"]))
    return [
        (
            operator,
            len(tests),
            list({requirement: (nodeid, requirement) for nodeid, requirement in tests}.values())[:8],
            len(tests) > 8,
        )
        for operator, tests in sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))[:LISTED]
    ]


def _speed(records: Sequence[Mapping]) -> list[measurements.Performance]:
    found = measurements.all_performances(records).values()
    return sorted(found, key=lambda one: (one.world_size, one.workload))[:SPEEDS]


def _choices(records: Sequence[Mapping], features: Sequence[str]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    present = {record["outcome"] for record in records}
    outcomes = [
        ("bad", "failures"),
        *((outcome.value, outcome.value) for outcome in Outcome if outcome.value in present),
    ]
    libraries = sorted({record["library"] for record in records})
    levels = sorted({record["level"] for record in records})
    sorts = [(key, f"sort_{key}") for key in ("name", "headroom", "seconds")]
    return [
        ("outcome", "any_outcome", outcomes),
        ("library", "any_library", [(library, library) for library in libraries]),
        ("feature", "any_feature", [(feature, feature) for feature in features]),
        ("level", "any_level", [(level, level) for level in levels]),
        ("sort", "sort_outcome", sorts),
    ]


def _list(records: Sequence[Mapping], least: Sequence[Headroom | None]) -> dict[str, Any]:
    """What the list of all tests shows, by column; run.js reads it."""
    requirements: dict[tuple, int] = {}
    sets: dict[tuple, int] = {}
    columns: dict[str, list] = {
        name: [] for name in ("tests", "requirement", "outcome", "features", "seconds", "headroom")
    }
    outcomes = [outcome.value for outcome in Outcome]
    for record, used in zip(records, least, strict=True):
        promise = tuple(record[name] for name in ("requirement", "level", "sentence", "library"))
        columns["tests"].append(record["nodeid"])
        columns["requirement"].append(requirements.setdefault(promise, len(requirements)))
        columns["outcome"].append(outcomes.index(record["outcome"]))
        columns["features"].append(sets.setdefault(tuple(record["features"]), len(sets)))
        columns["seconds"].append(_seconds(record))
        columns["headroom"].append(_number(used.used) if used else None)
    return {
        **columns,
        "requirements": list(requirements),
        "featureSets": list(sets),
        "outcomes": outcomes,
        "tones": page.TONES,
        "part": PART,
    }


def _packed(records: Sequence[Mapping], drawn: frozenset[str]) -> str:
    details = [_detail(record, record["nodeid"] in drawn) for record in records]
    text = json.dumps(details, separators=(",", ":")).encode()
    return base64.b64encode(zlib.compress(text)).decode()


def _detail(record: Mapping, draw: bool) -> dict[str, Any]:
    """One test in full; run.js shows it."""
    from reports import plots  # matplotlib takes a second, which the commands that draw nothing need not wait for

    values = {name: value for name, value in (record.get("values") or {}).items() if name != "ranks"}
    if len(json.dumps(values)) > LARGEST_VALUES:
        values = {"[...]": f"the journal has more than {LARGEST_VALUES} characters of values"}
    npu = record.get("npu") or {}
    facts = {
        "worker": record.get("worker"),
        "card": record.get("card"),
        "ended": record.get("time"),
        "phases": " + ".join(f"{value} ({name})" for name, value in (record.get("seconds") or {}).items()),
        "allocations": npu.get("allocations"),
        "peak_memory": page.mebibytes(peak) if (peak := measurements.finite(npu.get("peak_bytes"))) else None,
        "poisoned": record.get("poisoned"),
    }
    return {
        "reason": record["reason"],
        "reproduce": record["reproduce"],
        "waiver": waiver_of(record),
        "ranks": measurements.ranks(record),
        "curves": [
            {
                "name": one.name,
                "reference": bool(one.reference),
                "band": bool(one.band),
                "svg": plots.curve(one) if draw else "",
            }
            for one in measurements.curves(record)
        ],
        "checks": list(_checks(record)),
        "fallbacks": measurements.fallbacks(record),
        "findings": [
            found
            for found in record.get("findings") or ()
            if not (isinstance(found, Mapping) and found.get("kind") == "cpu-fallback")
        ],
        "performance": [
            {
                "workload": one.workload,
                "world_size": one.world_size,
                "step": one.step,
                "throughput": one.throughput,
                "peak_bytes": one.peak_bytes,
            }
            for one in measurements.performances(record)
        ],
        "facts": {name: value for name, value in facts.items() if value not in (None, "")},
        "values": values,
        "log": record.get("log") or "",
    }


def _checks(record: Mapping) -> Iterator[dict[str, Any]]:
    for check in record.get("checks") or ():
        if isinstance(check, dict):
            yield {
                "check": str(check.get("check")),
                "statistic": str(check.get("statistic")),
                "passed": bool(check.get("passed")),
                "used": _number(measurements.number(check.get("headroom"))),
                "measured": _number(measurements.number(check.get("measured"))),
                "limit": _number(measurements.number(check.get("limit"))),
            }


def _drawn(records: Sequence[Mapping], least: Sequence[Headroom | None], curves: int) -> frozenset[str]:
    """The tests whose curves are drawn: failed ones first, then those closest to a limit."""
    counts = [(len(measurements.curves(record)), record, used) for record, used in zip(records, least, strict=True)]
    wanted = [
        (record["outcome"] not in FAILURES, -(used.used if used else 0), n, record) for n, record, used in counts if n
    ]
    chosen, drawn = set(), 0
    for _, _, count, record in sorted(wanted, key=lambda entry: entry[:2]):
        drawn += count
        if drawn > curves:
            break
        chosen.add(record["nodeid"])
    return frozenset(chosen)


def _number(value: float | None) -> float | None:
    """A number as a page needs it: four digits, and no infinity, which JSON does not know."""
    if value is None or math.isnan(value):
        return None
    bounded = value if abs(value) < LARGEST else math.copysign(LARGEST, value)
    return float(f"{bounded:.4g}")


def _seconds(record: Mapping) -> float | None:
    found = [measurements.finite(value) for value in (record.get("seconds") or {}).values()]
    return round(sum(value for value in found if value is not None), 2) if found else None


def _duration(run: Run) -> str | None:
    seconds = [measurements.finite((one.footer or {}).get("seconds")) for one in run.journals]
    known = [value for value in seconds if value is not None]
    if not known:
        return None
    minutes, rest = divmod(round(sum(known)), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _provenance(run: Run) -> list[tuple[str, str]]:
    """Every fact of the headers, flat, in the order of the journal."""
    skipped = {"type", "schema", "sha256", "versions", "environment", "npu_smi"}
    header = run.header
    facts: list[tuple[str, Any]] = [("journals", ", ".join(one.path.name for one in run.journals))]
    facts += [(name, value) for name, value in header.items() if name not in skipped]
    facts += [(name, version) for name, version in header["versions"].items()]
    facts += list((header.get("environment") or {}).items())
    facts += [("npu-smi info", header.get("npu_smi"))]
    return [(str(name), _flat(value)) for name, value in facts if value not in (None, "", {}, [])]


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_flat(inner)}" for name, inner in value.items() if inner not in (None, "", {}, []))
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    runs.add_run_argument(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="write there (default: report.html beside the journal)"
    )
    parser.add_argument(
        "--plots", metavar="N", type=int, default=PLOTS, help=f"draw at most N curves (default: {PLOTS})"
    )


def run(options: argparse.Namespace) -> int:
    """Writes the page and says where."""
    found = runs.load(options.run)
    output = options.output or found.journals[0].path.with_name("report.html")
    write_whole(output, html(found, options.plots))
    print(output)  # noqa: T201
    return 0

"""The shipped record of the trial: it speaks of today's catalogue; and a share of the trial itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

from meta_tests.trial import catalogue, page, record
from meta_tests.trial.catalogue import Fault
from reports import suite

ROOT = Path(__file__).resolve().parents[2]
FAULT = Fault("too-large", "forward", "Sums are too large.", ("demo/sum",), "aclnnReduceSum:scale=2")
OTHER = Fault("lost", "memory", "It is lost.", ("demo/mean",), "aclrtFree:leak", survives="Nobody looks.")


def judged(fault, status="killed", **cells):
    of = {"outcome": "FAIL", "killed": True, "after": 1.5, "called": True}
    cells = {f"demo/{name}": {**of, **cell} for name, cell in cells.items()}
    missed = () if status == "killed" else fault.requirements
    return {
        **{"id": fault.id, "family": fault.family, "line": fault.line, "patch": fault.patch, "status": status},
        **{"fired": 3, "cpu": 2.0, "missed": missed, "cells": cells},
    }


def report(*rows, made="2026-01-01T00:00:00Z"):
    return {"made": made, "revision": "abc", "versions": {"torch": "2.9"}, "faults": rows}


def test_a_row_tells_what_was_caught_by_the_test_itself():
    """What only the question with a known answer found is no requirement's merit."""
    cells = {"sum": {}, "mean": {"called": False}, "norm": {"outcome": "DEVICE_LOST"}, "max": {"killed": False}}

    row = record.row_of(judged(FAULT, **cells), "today", "abc")

    assert row["caught"] == {"demo/sum": 1.5}
    assert row["refused"] == ["demo/mean", "demo/norm"]
    assert row["passed"] == ["demo/max"]


def test_a_trial_of_some_faults_leaves_the_others(tmp_path):
    """The rows of a report replace those of the same faults; a fault that the catalogue no longer has is dropped."""
    gone = Fault("gone", "forward", "It is gone.", ("demo/sum",), "aclnnMm:zero")
    first = record.updated(
        record.read(tmp_path / "none.json"), report(*map(judged, (FAULT, OTHER, gone))), [FAULT, OTHER]
    )

    second = record.updated(first, report(judged(FAULT, "survived"), made="2026-02-02T00:00:00Z"), [FAULT, OTHER])

    seen = {row["id"]: (row["status"], row["judged"][:10]) for row in second["faults"]}
    assert seen == {"too-large": ("survived", "2026-02-02"), "lost": ("killed", "2026-01-01")}
    (tmp_path / "trial.json").write_text(record.text(second))
    assert record.read(tmp_path / "trial.json") == second


def test_what_is_no_longer_asked_was_not_missed():
    """A fault is killed when the one requirement that did not see it is no longer named."""
    asked = Fault("too-large", "forward", "Sums are too large.", ("demo/sum", "demo/mean"), FAULT.line)
    seen = {**judged(asked, "missed", sum={}), "missed": ("demo/mean",)}

    status = {
        len(f.requirements): record.updated({"faults": []}, report(seen), [f])["faults"][0] for f in (asked, FAULT)
    }

    assert (status[2]["status"], status[2]["missed"]) == ("missed", ["demo/mean"])
    assert (status[1]["status"], status[1]["missed"]) == ("killed", [])


def test_a_fault_with_another_line_is_not_judged():
    """A row speaks of the line that was injected."""
    known = record.updated({"faults": []}, report(judged(FAULT)), [FAULT])
    other = Fault(FAULT.id, FAULT.family, FAULT.lie, FAULT.requirements, "aclnnReduceSum:scale=3")

    assert set(record.current(known, [FAULT])) == {FAULT.id}
    assert not record.current(known, [other])


def test_the_page_names_what_was_not_killed():
    """Survivors stand in the page with their reason, or as not explained."""
    known = record.updated({"faults": []}, report(judged(FAULT, "missed"), judged(OTHER, "survived")), [FAULT, OTHER])

    text = record.tables(known, ["forward", "memory"], [FAULT, OTHER])

    assert "- `too-large`, missed (by demo/sum): Sums are too large. not explained yet." in text
    assert "- `lost`, survived: It is lost. Nobody looks." in text
    assert "| **all** | **2** | **2** | **2** | **0** | **1** |" in text


def test_the_page_is_that_of_the_record():
    """The tables of docs/TRIAL.md are those of docs/trial.json."""
    whole, old = catalogue.read(), record.PAGE.read_text(encoding="utf-8")

    new = record.page(old, record.read(), whole.families, whole.faults)

    assert new == old, "type: python -m meta_tests.trial record"


def test_every_survivor_is_explained():
    """No fault that was judged, as the catalogue has it, went uncaught without a reason."""
    faults = {fault.id: fault for fault in catalogue.read().faults}
    rows = record.current(record.read(), faults.values())

    assert not [id for id, row in rows.items() if row["status"] != "killed" and not faults[id].survives]


def share() -> list[str]:
    """Of each family of which one needs a single card the fault that took the least processor time."""
    faults = {fault.id: fault for fault in catalogue.read().faults}
    rows = record.current(record.read(), faults.values())
    several = {one.id for one in suite.declared(ROOT) if "multi_npu" in one.features}
    first = {}
    for row in sorted(rows.values(), key=lambda row: (row["cpu"], row["id"])):
        if row["status"] == "killed" and row["family"] != "null device" and not several & set(row["caught"]):
            first.setdefault(row["family"], row["id"])
    return sorted(first.values())


def test_a_share_of_the_trial(tmp_path, built):
    """A fault of each family that needs no ranks is caught by what must catch it, as the record says."""
    chosen = share()
    command = [sys.executable, "-m", "meta_tests.trial", "--faults", ",".join(chosen), "--jobs", "1", "--out", tmp_path]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=580)

    assert (tmp_path / page.TRIAL).exists(), done.stdout + done.stderr
    trial = json.loads((tmp_path / page.TRIAL).read_text())
    assert {fault["id"]: fault["status"] for fault in trial["faults"]} == dict.fromkeys(chosen, "killed"), done.stdout
    assert len(chosen) > 20

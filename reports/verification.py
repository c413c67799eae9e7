"""``python -m reports verify RUN``: is a result set complete and consistent?

That its lines are untouched, each journal's reader has seen already (reports/journal.py); here it is compared with
itself: header and footer, each test once, nothing missing, one box and one environment over all journals.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reports import archive
from reports import run as runs
from reports.conditions import facts_of
from reports.errors import ReportError
from reports.journal import Journal
from reports.outcome import Outcome
from reports.run import Run
from reports.verdict import judge, verdict_line

NOT_VERIFIED = 1
# Facts of a header that are the same over all journals of one run, or it is no run of one environment.
ENVIRONMENT = (
    *("emulated", "emulator", "versions", "builds", "cann", "driver", "firmware", "python", "os", "kernel"),
    *("architecture", "revision", "modified", "model"),
)
STACK = ("torch", "torch_npu", "cann", "chip", "overflow_mode", "bf16", "hf32")
# Variables that say which cards a part of the run used; they differ between shards by design.
OF_ONE_SHARD = ("ASCEND_RT_VISIBLE_DEVICES", "NPU_EMULATOR_CARDS", "NPU_EMULATOR_FAULT_LOG")


def problems(found: Run) -> list[str]:
    """What keeps the run from being evidence, in words with file and line; empty if nothing does."""
    return [
        *_interruptions(found),
        *(
            f"{one.path}: no test was selected"
            for one in found.journals
            if not (one.selection or one.header.get("resumes"))
        ),
        *contradictions(found),
        *_absent_shards(found),
        *(f"{test['nodeid']}: was to be executed, and has no record" for test in found.missing),
        *(f"profile {found.verdict.profile}: {line}" for line in found.verdict.absent),
    ]


def contradictions(found: Run) -> list[str]:
    """What keeps journals from being of one run at all, whatever else may still be missing of it."""
    return [*_duplicates(found), *_inconsistencies(found), *_differences(found)]


def _absent_shards(found: Run) -> Iterator[str]:
    given = {str(one.header["shard"]) for one in found.journals if one.header.get("shard")}
    for total in sorted({shard.partition("/")[2] for shard in given}):
        for number in range(1, int(total) + 1) if total.isdigit() and len(total) < 5 else ():
            if f"{number}/{total}" not in given:
                yield f"shard {number}/{total} is missing: give the journals of all shards"


def _interruptions(found: Run) -> Iterator[str]:
    for one in found.interrupted:
        cut = ", and its last line is cut off" if one.torn else ""
        yield (f"{one.path}: no footer{cut}: the run was killed or the file truncated. Resume it, or run it again")
    for one in found.journals:
        if one.torn and one.footer is not None:
            yield f"{one.path}: something that is no complete line stands after the footer"


def _duplicates(found: Run) -> Iterator[str]:
    seen: dict[str, str] = {}
    for test, (path, line) in zip(found.tests, found.places, strict=True):
        place = f"{path}, line {line}"
        other = seen.setdefault(test["nodeid"], place)
        if other != place:
            yield f"{place}: a second record of {test['nodeid']}; the first is in {other}"
    identities = [runs.header_id(one) for one in found.journals]
    for one, id in zip(found.journals, identities, strict=True):
        if identities.count(id) > 1:
            yield f"{one.path}: the same journal was given twice"


def _inconsistencies(found: Run) -> Iterator[str]:
    planned = {test["nodeid"]: test for one in found.journals for test in one.selection}
    for test, (path, line) in zip(found.tests, found.places, strict=True):
        plan = planned.get(test["nodeid"])
        if plan is None:
            yield f"{path}, line {line}: {test['nodeid']} was not among the tests that the run was to execute"
            continue
        changed = [name for name in ("requirement", "level", "sentence", "features") if test[name] != plan[name]]
        if changed:
            yield f"{path}, line {line}: {test['nodeid']} has another {', '.join(changed)} than it was selected with"
    for one in found.journals:
        if one.footer is not None:
            yield from _faults_of_footer(one)


def _faults_of_footer(one: Journal) -> Iterator[str]:
    if one.footer["tests"] != len(one.tests):
        yield f"{one.path}: the footer counts {one.footer['tests']} tests, the journal has {len(one.tests)}"
    if not any(one.header.get("resumes", ())):
        judged = judge(one.tests, one.plan, facts_of(one.header, one.stacks)).verdict
        if one.footer["verdict"] != judged:
            yield f"{one.path}: the footer says {one.footer['verdict']}, the tests give {judged}"


def _differences(found: Run) -> Iterator[str]:
    first = found.journals[0]
    for one in found.journals[1:]:
        sharded = first.header.get("shard") and one.header.get("shard")  # machines of one kind may share a run
        if not sharded and not _is_one_box(first.header.get("machine", {}), one.header.get("machine", {})):
            yield (
                f"{one.path}, line 1: written on another machine than {first.path}. Report each machine by itself, or "
                "spread one run over machines of one kind by pytest --shard I/N"
            )
        asked, answered = (((journal.plan or {}).get("profile") or {}).get("name") for journal in (first, one))
        if asked != answered:
            yield f"{one.path}: made for another profile than {first.path}: {answered}, not {asked}"
        for name, ours, theirs in environment_changes(first.header, one.header):
            yield f"{one.path}, line 1: another environment than {first.path}: {name} is {theirs}, not {ours}"
    if found.stacks:
        reference = found.stacks[0]
        for stack in found.stacks[1:]:
            for name in STACK:
                if stack.get(name) != reference.get(name):
                    yield (
                        f"worker {stack.get('worker')}: another stack than worker {reference.get('worker')}: "
                        f"{name} is {stack.get(name)}, not {reference.get(name)}"
                    )


def environment_changes(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """In what the environments of two headers differ: name, value of the one, value of the other."""
    return list(_changes(_environment(one), _environment(other)))


def _is_one_box(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Containers of one machine share its boot; the machine keeps its id when it boots again."""
    names = [name for name in ("boot", "id") if one.get(name) and other.get(name)]
    return not names or any(one[name] == other[name] for name in names)


def _environment(header: Mapping[str, Any]) -> dict[str, Any]:
    facts = {name: header.get(name) for name in ENVIRONMENT}
    variables = {f"variable {name}": value for name, value in (header.get("environment") or {}).items()}
    flat: dict[str, Any] = {}
    for name, value in {**facts, **variables}.items():
        inner = value.items() if isinstance(value, dict) else [(None, value)]
        flat.update({name if key is None else f"{name} {key}": item for key, item in inner})
    return {name: value for name, value in flat.items() if name.split()[-1] not in OF_ONE_SHARD}


def _changes(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            yield name, one.get(name), other.get(name)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    runs.add_run_argument(parser, "directory of a run, a journal, several of both (shards), or one archive of a bundle")
    parser.add_argument("--signers", metavar="FILE", type=Path, help="allowed_signers file for the archive's signature")
    parser.add_argument("--identity", metavar="WHO", help="who must have signed the archive, as --signers names them")


def run(options: argparse.Namespace) -> int:
    """Prints what is wrong, a line each, or that nothing is, with the verdict."""
    if bool(options.signers) != bool(options.identity):
        raise ReportError("--signers FILE and --identity WHO belong together")
    if archive.is_archive(options.run[0]):
        if len(options.run) > 1:
            raise ReportError("an archive is verified by itself: give one")
        with tempfile.TemporaryDirectory() as directory:
            signed = archive.unpack(options.run[0], Path(directory), options.signers, options.identity)
            print(f"archive: {signed}")  # noqa: T201
            return _verify(runs.load(Path(directory) / "journals"))
    if options.signers:
        raise ReportError(f"{options.run[0]}: only an archive has a signature (python -m reports bundle --sign)")
    return _verify(runs.load(options.run))


def _verify(found: Run) -> int:
    wrong = problems(found)
    for line in wrong:
        print(f"not verified: {line}")  # noqa: T201
    if wrong:
        return NOT_VERIFIED
    counts = Counter(Outcome(test["outcome"]) for test in found.tests)
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome])
    machines = sorted({str((one.header.get("machine") or {}).get("name") or "unnamed") for one in found.journals})
    where = f" on {len(machines)} machines ({', '.join(machines)})" if len(machines) > 1 else ""
    print(f"verified: {len(found.journals)} journal(s), {len(found.tests)} tests ({told}){where}")  # noqa: T201
    print(verdict_line(found.verdict, {**found.header, "chip": found.chip}))  # noqa: T201
    return 0

"""The trial of the whole catalogue: an honest run first, then the suite under each fault, then the kill matrix."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fixtures import provenance
from meta_tests.trial import forks, lies, matrix
from meta_tests.trial.catalogue import CatalogueError, Fault, tests_of
from meta_tests.trial.forks import ROOT, Ran, Run, TestResult, TrialError
from reports import conditions, waivers
from reports.journal import JournalError
from reports.outcome import Outcome
from reports.run import load

SINGLE, MULTI = {"NPU_EMULATOR_CARDS": "1"}, {"NPU_EMULATOR_CARDS": "4", "NPU_EMULATOR_HCCL_TIMEOUT": "20"}
GREEN = ("PASS", "XFAIL", "UNSUPPORTED")  # on honest cards
SOURCES = ("tests", "fixtures", "reports", "emulator/csrc", "requirements-emulated.txt")


@dataclass(frozen=True)
class Plan:
    """What the trial has to run.

    Attributes:
        tests: descriptions of all tests of the suite (forks.collect).
        wanted: by fault id: node ids by entry of ``Fault.requirements``.
        full: the whole suite under each fault, rather than the requirements named.
    """

    tests: Sequence[Mapping]
    wanted: Mapping[str, Mapping[str, list[str]]]
    full: bool

    @property
    def owners(self) -> dict[str, str]:
        """Requirement id by node id."""
        return {test["nodeid"]: test["requirement"] for test in self.tests}

    def of(self, fault: Fault) -> list[str]:
        """The tests to run under a fault, in the suite's order."""
        if self.full:
            return [test["nodeid"] for test in self.tests]
        wanted = {node for nodes in self.wanted[fault.id].values() for node in nodes}
        return [test["nodeid"] for test in self.tests if test["nodeid"] in wanted]

    def of_one_card(self, fault: Fault) -> bool:
        """Whether no test to run under a fault needs several cards, which its line may name."""
        several = {test["nodeid"] for test in self.tests if test["multi"]}
        return not several.intersection(self.of(fault))

    def runs(
        self, name: str, tests: Sequence[str], environment: Mapping, patch: str = "", deadline: float = 300.0
    ) -> list[Run]:
        """Runs for these tests: those of one card, of several and of the user's own model are started otherwise."""
        several = {test["nodeid"] for test in self.tests if test["multi"]}
        asking = {test["nodeid"] for test in self.tests if test["model"]}
        parts = {
            f"{name}.1": (SINGLE, "", [test for test in tests if test not in several | asking]),
            f"{name}.n": (MULTI, "", [test for test in tests if test in several]),
            f"{name}.m": (SINGLE, forks.MODEL, [test for test in tests if test in asking]),
        }
        return [
            Run(part, tuple(chosen), {**cards, **environment}, patch, deadline, model=model)
            for part, (cards, model, chosen) in parts.items()
            if chosen
        ]


def plan(faults: Sequence[Fault], tests: Sequence[Mapping], full: bool) -> Plan:
    """Finds the tests of each fault's requirements.

    Raises:
        CatalogueError: a requirement that no test proves.
    """
    wanted: dict[str, dict[str, list[str]]] = {}
    problems = []
    for fault in faults:
        for entry in fault.requirements:
            try:
                wanted.setdefault(fault.id, {})[entry] = tests_of(entry, tests)
            except CatalogueError as error:
                problems.append(f"faults.toml, fault {fault.id}: {error}")
    if problems:
        raise CatalogueError("\n".join(problems))
    return Plan(tests, wanted, full)


def source_digest() -> str:
    """A digest of everything that decides a result, but for the catalogue."""
    digest = hashlib.sha256()
    for name in SOURCES:
        path = ROOT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix in (".py", ".cpp", ".h", ".toml", ".txt", ".json"):
                digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:32]


class Store:
    """Results of runs, kept in files so that a trial that was interrupted can go on."""

    def __init__(self, directory: Path, resume: bool):
        self.directory = directory
        self.digest = source_digest()
        if not resume:
            for name in ("results", "references", "work"):  # nothing else: the directory may be anybody's
                shutil.rmtree(directory / name, ignore_errors=True)
        self.results = directory / "results"
        self.results.mkdir(parents=True, exist_ok=True)
        self.references = directory / "references" / self.digest

    def key(self, run: Run) -> str:
        """The same for runs that must give the same."""
        lie = inspect.getsource(lies.LIES[run.patch][1]) if run.patch else ""
        return hashlib.sha256(f"{self.digest} {run!r} {lie}".encode()).hexdigest()[:32]

    def get(self, run: Run) -> Ran | None:
        """What was found for such a run, if it was executed already."""
        file = self.results / f"{self.key(run)}.json"
        if not file.exists():
            return None
        kept = json.loads(file.read_text(encoding="utf-8"))
        results = tuple(TestResult(**{**one, "fired": tuple(one.get("fired", ()))}) for one in kept["results"])
        return Ran(run, results, kept["fired"], kept["seconds"], kept["cpu"])

    def put(self, ran: Ran) -> None:
        """Keeps it."""
        results = [asdict(result) for result in ran.results]
        file = self.results / f"{self.key(ran.run)}.json"
        part = file.with_suffix(".part")
        figures = {"fired": ran.fired, "seconds": ran.seconds, "cpu": ran.cpu}
        part.write_text(json.dumps({"results": results, **figures}), encoding="utf-8")
        part.rename(file)


def executed(store: Store, runs: Sequence[Run], jobs: int):
    """Yields what became of each run, from the store where it is there."""
    missing = []
    for run in runs:
        if known := store.get(run):
            yield known
        else:
            missing.append(run)
    for ran in forks.execute(missing, store.directory / "work", store.references, jobs):
        if "NPU_EMULATOR_FAULTS" in ran.run.environment or all(result.outcome in GREEN for result in ran.results):
            store.put(ran)  # a failure on an honest card is to be mended, not to be remembered
        yield ran


def outcomes_of(directory: Path) -> dict[str, str]:
    """By node id: the outcomes of a run of the suite on honest cards, of these sources.

    Raises:
        TrialError: no such run, one of other sources, or one under faults.
    """
    try:
        known = load(directory)
    except JournalError as error:
        raise TrialError(f"--honest: {error}") from error
    if known.header["emulator"].get("NPU_EMULATOR_FAULTS"):
        raise TrialError(f"--honest {directory}: expected a run on honest cards; found one with NPU_EMULATOR_FAULTS")
    there = str(known.header["revision"])
    changed = subprocess.run(["git", "-C", str(ROOT), "diff", "--quiet", there, "--", *SOURCES], check=False)
    if known.header["modified"] or changed.returncode:
        raise TrialError(
            f"--honest {directory}: expected a run of these sources ({', '.join(SOURCES)}); they are not those of "
            f"the revision {there}{' with the changes that it had then' if known.header['modified'] else ''}"
        )
    return {test["nodeid"]: test["outcome"] for test in known.tests if test["outcome"] in GREEN}


def honest(
    store: Store,
    plan: Plan,
    faults: Sequence[Fault],
    jobs: int,
    say: Callable[[str], None],
    known: Mapping[str, str] | None = None,
) -> dict[tuple, str]:
    """Runs every test that is needed on honest cards, with every environment that some fault asks for.

    Args:
        known: by node id: outcomes on honest cards without such an environment, which need no run.

    Returns:
        The outcome by environment (sorted items) and node id.

    Raises:
        TrialError: a test fails on honest cards, so that the trial would say nothing.
    """
    outcomes: dict[tuple, str] = {((), test): outcome for test, outcome in (known or {}).items()}
    needed: dict[tuple, list[str]] = {}
    for fault in faults:
        setting = tuple(sorted(fault.environment.items()))
        listed = needed.setdefault(setting, [])
        listed += [test for test in plan.of(fault) if test not in listed and (setting, test) not in outcomes]
    runs = []
    several = {test["nodeid"] for test in plan.tests if test["multi"]}
    for number, (environment, tests) in enumerate(needed.items()):
        one = forks.chunks([test for test in tests if test not in several], 2 * jobs)
        # Workloads of several cards that the tests of a folder share are started once.
        many = forks.chunks([test for test in tests if test in several], 2 * jobs, by=os.path.dirname)
        for part, chunk in enumerate(one + many):
            runs += plan.runs(f"honest-{number}-{part}", chunk, dict(environment))
    settings = {run.name: next(e for n, e in enumerate(needed) if run.name.split("-")[1] == str(n)) for run in runs}
    red = []
    for ran in executed(store, runs, jobs):
        for result in ran.results:
            outcomes[settings[ran.run.name], result.nodeid] = result.outcome
            if result.outcome not in GREEN:
                red.append(
                    f"  {result.outcome} {result.nodeid}: {result.reason.splitlines()[0] if result.reason else ''}"
                )
        say(f"honest    {ran.run.name}: {len(ran.results)} tests in {ran.seconds:g} s")
    if red:
        raise TrialError(
            "expected: green on honest cards, before anything can be learnt from faults; found:\n" + "\n".join(red)
        )
    return outcomes


def trial(
    store: Store,
    plan: Plan,
    faults: Sequence[Fault],
    jobs: int,
    say: Callable[[str], None],
    more: Mapping | None = None,
    known: Mapping[str, str] | None = None,
) -> list[matrix.Row]:
    """The row of each fault.

    Args:
        more: variables for all runs with faults, for example NPU_EMULATOR_NOISE.
        known: as honest takes it.
    """
    outcomes = honest(store, plan, faults, jobs, say, known)
    runs: dict[str, list[Run]] = {}
    for fault in faults:
        setting = tuple(sorted(fault.environment.items()))
        # What does not pass on an honest card cannot be turned red.
        tests = [test for test in plan.of(fault) if outcomes[setting, test] == str(Outcome.PASS)]
        environment = {"NPU_EMULATOR_FAULTS": fault.line, **fault.environment, **(more or {})}
        runs[fault.id] = plan.runs(fault.id, tests, environment, fault.patch, fault.deadline)
    owner = {run.name: id for id, own in runs.items() for run in own}
    done: dict[str, list[Ran]] = {fault.id: [] for fault in faults}
    rows, by_id = {}, {fault.id: fault for fault in faults}
    for ran in executed(store, [run for own in runs.values() for run in own], jobs):
        id = owner[ran.run.name]
        done[id].append(ran)
        if len(done[id]) == len(runs[id]):
            rows[id] = matrix.row(by_id[id], plan.wanted[id], plan.owners, done[id])
            say(matrix.line(rows[id]))
    for fault in faults:
        if fault.id not in rows:  # none of its tests passes on an honest card
            rows[fault.id] = matrix.row(fault, plan.wanted[fault.id], plan.owners, [])
            say(matrix.line(rows[fault.id]))
    return [rows[fault.id] for fault in faults]


def report(plan: Plan, rows: Sequence[matrix.Row], seconds: float, jobs: int) -> dict:
    """The trial as JSON."""
    facts = provenance.header(ROOT)
    levels = {test["requirement"]: test["level"] for test in plan.tests}
    proofs = matrix.proofs(rows)
    # A known failure, which every run of the suite holds to its word, is a requirement that today's stack turns red.
    known = {
        id: waiver.defect
        for waiver in waivers.read(ROOT / waivers.FILE_NAME)
        for id in levels
        if any(conditions.matches(id, [pattern]) for pattern, _ in waiver.ids)
    }
    requirements = {
        id: {"level": level, "proved_by": proofs.get(id, []), "known_failure": known.get(id)}
        for id, level in sorted(levels.items())
    }
    return {
        "schema": 1,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "revision": facts["revision"],
        "versions": facts["versions"],
        "mode": "full" if plan.full else "targeted",
        "seconds": round(seconds, 1),
        "cpu": round(sum(row.cpu for row in rows), 1),
        "jobs": jobs,
        "faults": [row.as_json() for row in rows],
        "requirements": requirements,
        "unproven": [id for id, one in requirements.items() if not one["proved_by"] and not one["known_failure"]],
    }

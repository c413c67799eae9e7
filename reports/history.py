"""Many runs in the order of time: how pass rate, headroom, step time, memory and every test developed.

A pure function of journals. Of each run a digest is kept, so that a year of nightly runs fits into memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from reports import measurements
from reports.comparison import IRRELEVANT, class_of, differences
from reports.measurements import Performance
from reports.outcome import Outcome
from reports.run import Run


@dataclass(frozen=True)
class Digest:
    """What a history needs of one run.

    Attributes:
        name: of the run.
        header, stacks: as in Run.
        emulated, complete, chip: as in Run.
        verdict: CONFORMANT, NOT CONFORMANT or INCOMPLETE.
        tests: by id: outcome, and what the check closest to its limit used of it (None without one).
        requirements: by id of a test: its requirement and the requirement's sentence.
        speeds: by workload and world size.
    """

    name: str
    header: Mapping[str, Any]
    stacks: tuple[Mapping[str, Any], ...]
    emulated: bool
    complete: bool
    chip: str | None
    verdict: str
    tests: Mapping[str, tuple[Outcome, float | None]]
    requirements: Mapping[str, tuple[str, str]]
    speeds: Mapping[tuple[str, int], Performance]


@dataclass(frozen=True)
class Point:
    """One run of a history.

    Attributes:
        digest: of the run.
        counts: tests by outcome.
        pass_rate: share of PASS among the tests that ran (all but UNSUPPORTED and NOT_RUN); None if none ran.
        headroom: median over passing tests of what they used of their limit; None without numbers.
        time: median over workloads of the time of a step, relative to the first run that has the workload.
        memory: the same of the peak memory.
        changes: (name, before, now) of what differs from the run before.
        environment: number of the environment; runs of equal environment have the same.
    """

    digest: Digest
    counts: Mapping[Outcome, int]
    pass_rate: float | None
    headroom: float | None
    time: float | None
    memory: float | None
    changes: tuple[tuple[str, Any, Any], ...]
    environment: int


@dataclass(frozen=True)
class Line:
    """One test over all runs, oldest first.

    Attributes:
        nodeid, requirement, sentence: of the test.
        outcomes: None where a run does not have it.
        used: what its check closest to a limit used of it.
        flakiness: share of its runs that ended otherwise than most runs of the same environment.
        changed: it ended otherwise in the last run that has it than in the one before.
    """

    nodeid: str
    requirement: str
    sentence: str
    outcomes: tuple[Outcome | None, ...]
    used: tuple[float | None, ...]
    flakiness: float
    changed: bool


@dataclass(frozen=True)
class History:
    """Attributes:
    points: one for each run, oldest first.
    lines: one for each test: flaky ones first, then changed ones, then by id.
    """

    points: tuple[Point, ...]
    lines: tuple[Line, ...]


def digest(run: Run, name: str) -> Digest:
    """What a history needs of a run."""
    records = run.all_tests()
    used = [found.used if (found := measurements.least_headroom(record)) else None for record in records]
    return Digest(
        name=name,
        header=run.header,
        stacks=run.stacks[:1],
        emulated=run.emulated,
        complete=run.complete,
        chip=run.chip,
        verdict=run.verdict.verdict,
        tests={r["nodeid"]: (Outcome(r["outcome"]), u) for r, u in zip(records, used, strict=True)},
        requirements={r["nodeid"]: (r["requirement"], r["sentence"]) for r in records},
        speeds=measurements.all_performances(records),
    )


def history(digests: Sequence[Digest]) -> History:
    """The history of runs, at least one, in any order."""
    ordered = sorted(digests, key=lambda one: (str(one.header.get("time", "")), one.name))
    environments = _environments(ordered)
    points = tuple(
        _point(one, ordered[number - 1] if number else None, ordered, environments[number])
        for number, one in enumerate(ordered)
    )
    nodeids = dict.fromkeys(nodeid for one in ordered for nodeid in one.tests)
    lines = [_line(nodeid, ordered, environments) for nodeid in nodeids]
    return History(points, tuple(sorted(lines, key=lambda one: (-one.flakiness, not one.changed, one.nodeid))))


def _environments(ordered: Sequence[Digest]) -> list[int]:
    known: list[Digest] = []
    numbers = []
    for one in ordered:
        number = next((n for n, other in enumerate(known) if not differences(other, one)), len(known))
        if number == len(known):
            known.append(one)
        numbers.append(number)
    return numbers


def _point(one: Digest, before: Digest | None, ordered: Sequence[Digest], environment: int) -> Point:
    counts = Counter(outcome for outcome, _ in one.tests.values())
    ran = sum(counts.values()) - counts[Outcome.UNSUPPORTED] - counts[Outcome.NOT_RUN]
    used = [use for outcome, use in one.tests.values() if outcome is Outcome.PASS and use is not None]
    around = differences(before, one) if before else []
    return Point(
        digest=one,
        counts=counts,
        pass_rate=counts[Outcome.PASS] / ran if ran else None,
        headroom=median(used) if used else None,
        time=_relative(one, ordered, lambda speed: speed.step),
        memory=_relative(one, ordered, lambda speed: float(speed.peak_bytes)),
        changes=tuple(change for change in around if not change[0].startswith(IRRELEVANT)),
        environment=environment,
    )


def _relative(one: Digest, ordered: Sequence[Digest], value) -> float | None:
    """Median over the workloads of a run of a value relative to that of the first run that has the workload."""
    ratios = []
    for key, speed in one.speeds.items():
        first = next(other.speeds[key] for other in ordered if key in other.speeds)
        if value(first) > 0:
            ratios.append(value(speed) / value(first))
    return median(ratios) if ratios else None


def _line(nodeid: str, ordered: Sequence[Digest], environments: Sequence[int]) -> Line:
    found = [one.tests.get(nodeid) for one in ordered]
    requirement, sentence = next(one.requirements[nodeid] for one in reversed(ordered) if nodeid in one.requirements)
    outcomes = tuple(pair[0] if pair else None for pair in found)
    known = [class_of(outcome) for outcome in outcomes if outcome is not None]
    return Line(
        nodeid=nodeid,
        requirement=requirement,
        sentence=sentence,
        outcomes=outcomes,
        used=tuple(pair[1] if pair and (pair[1] is None or math.isfinite(pair[1])) else None for pair in found),
        flakiness=flakiness(outcomes, environments),
        changed=len(known) > 1 and known[-1] != known[-2],
    )


def flakiness(outcomes: Sequence[Outcome | None], environments: Sequence[int]) -> float:
    """Share of the runs that ended otherwise than most runs of the same environment; 0.0 for a test that is not flaky.

    A test that changed with its environment is not flaky. What did not run says nothing.
    """
    groups: dict[int, Counter] = {}
    for outcome, environment in zip(outcomes, environments, strict=True):
        if outcome is not None and class_of(outcome) != "open":
            groups.setdefault(environment, Counter())[class_of(outcome)] += 1
    total = sum(group.total() for group in groups.values())
    odd = sum(group.total() - max(group.values()) for group in groups.values())
    return odd / total if total else 0.0

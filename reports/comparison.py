"""Two sets of runs compared, for example of two releases of CANN: a pure function of journals.

Each side is one run, or several of one environment (repeats), which tell what is flaky and how much time scatters. What
a run repeated itself (``pytest --repeat N``) tells what is flaky, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

from reports import measurements, performance
from reports.measurements import Curve
from reports.outcome import FAILURES, Outcome
from reports.performance import Speed
from reports.run import Run
from reports.verification import STACK, environment_changes

NO_REGRESSION, REGRESSION, NOT_COMPARABLE = "NO REGRESSION", "REGRESSION", "NOT COMPARABLE"
EXIT_CODES = {NO_REGRESSION: 0, REGRESSION: 1, NOT_COMPARABLE: 2}
# What happened to a test, in the order of a report. The first three are regressions.
KINDS = ("regression", "lost", "became flaky", "exposed", "flaky", "changed", "waived", "fixed", "removed", "added")
REGRESSIONS = KINDS[:3]
# A passing check drifted where it uses so much more of its limit, and so many times what it used.
DRIFT_STEP, DRIFT_RATIO = 0.05, 1.5
# Facts that are expected to differ or that say nothing about the stack.
IRRELEVANT = ("revision", "modified", "kernel", "variable NPU_EMULATOR_")  # the last are there as "emulator" already
FIRST = ("cann", "driver", "firmware", "versions torch_npu", "builds torch_npu", "versions torch", "chip")


@dataclass(frozen=True)
class Change:
    """What happened to one test.

    Attributes:
        kind: one of KINDS. "lost": it passed, and is undecided or unsupported now. "exposed": it fails, and whether it
            did before is not known.
        nodeid, requirement, sentence, reproduce: of the test.
        before, after: its outcomes, one for each run of the side and each repetition in it (pytest --repeat); () where
            the side does not have it.
        reason: of the newest outcome after that is no pass, else of the oldest one before.
    """

    kind: str
    nodeid: str
    requirement: str
    sentence: str
    reproduce: str
    before: tuple[Outcome, ...]
    after: tuple[Outcome, ...]
    reason: str


@dataclass(frozen=True)
class Drift:
    """A check that passes on both sides and uses another part of its limit now (1 is all of it); medians over runs."""

    nodeid: str
    requirement: str
    check: str
    before: float
    after: float


@dataclass(frozen=True)
class Pair:
    """A curve of one test on both sides, of the first run each."""

    nodeid: str
    requirement: str
    before: Curve
    after: Curve


@dataclass(frozen=True)
class Comparison:
    """All differences of two sides.

    Attributes:
        obstacles: why they cannot be compared, in words; () if they can.
        notes: what a reader should know beside.
        environment: (name, before, after) of what differs, what matters most first.
        changes: tests that did not stay as they were, by kind.
        stayed: number of tests that did.
        checks: number of checks that pass on both sides.
        drifts: of those the ones that use notably more of their limit, largest first.
        gains: the ones that use notably less.
        speeds: workloads that were timed on both sides, slowest ratio first.
        pairs: curves that both sides have.
    """

    obstacles: tuple[str, ...]
    notes: tuple[str, ...]
    environment: tuple[tuple[str, Any, Any], ...]
    changes: tuple[Change, ...]
    stayed: int
    checks: int
    drifts: tuple[Drift, ...]
    gains: tuple[Drift, ...]
    speeds: tuple[Speed, ...]
    pairs: tuple[Pair, ...]

    @property
    def verdict(self) -> str:
        """NOT COMPARABLE, REGRESSION or NO REGRESSION."""
        if self.obstacles:
            return NOT_COMPARABLE
        return REGRESSION if self.regressions or self.slower else NO_REGRESSION

    @property
    def regressions(self) -> list[Change]:
        """Changes that are regressions."""
        return [change for change in self.changes if change.kind in REGRESSIONS]

    @property
    def slower(self) -> list[Speed]:
        """Workloads that became slower or larger beyond what repeats explain; time of one run each does not decide."""
        return [
            one for one in self.speeds if (one.time == performance.SLOWER and one.repeats > 1) or one.memory == "more"
        ]

    @cached_property
    def time_ratio(self) -> float | None:
        """Median over all workloads of the time after / before."""
        return median(one.ratio for one in self.speeds) if self.speeds else None

    @cached_property
    def chance(self) -> float:
        """How probable so one-sided ratios of time are by chance (performance.sign_test)."""
        return performance.sign_test([one.ratio for one in self.speeds])


def compare(before: Sequence[Run], after: Sequence[Run], subset: bool = False) -> Comparison:
    """Compares runs ``before`` with runs ``after``, at least one each.

    Args:
        before, after: runs of one environment each.
        subset: it is meant that ``after`` leaves tests out.
    """
    old, new = (_by_test(side) for side in (before, after))
    again = [_repeated(side) for side in (before, after)]
    found = [_change(nodeid, old.get(nodeid, []), new.get(nodeid, []), again) for nodeid in {**old, **new}]
    common = [nodeid for nodeid in old if nodeid in new]
    drifts = [drift for nodeid in common for drift in _drifts(old[nodeid], new[nodeid])]
    moved = [drift for drift in drifts if _moved(drift.before, drift.after)]
    around = differences(before[0], after[0])
    return Comparison(
        obstacles=tuple(_obstacles(before, after, old, new, subset)),
        notes=tuple(_notes(before, after)),
        environment=tuple(sorted((d for d in around if not d[0].startswith(IRRELEVANT)), key=_importance)),
        changes=tuple(sorted((c for c in found if c), key=lambda c: (KINDS.index(c.kind), c.nodeid))),
        stayed=sum(change is None for change in found),
        checks=len(drifts),
        drifts=tuple(sorted(moved, key=lambda drift: drift.before - drift.after)),
        gains=tuple(
            sorted((d for d in drifts if _moved(d.after, d.before)), key=lambda drift: drift.after - drift.before)
        ),
        speeds=tuple(_speeds(before, after)),
        pairs=tuple(pair for nodeid in common for pair in _pairs(old[nodeid][0], new[nodeid][0])),
    )


def differences(one: Run, other: Run) -> list[tuple[str, Any, Any]]:
    """In what two runs were made otherwise: (name, value of the one, of the other), from their headers and from what
    torch_npu said about the card.
    """
    cards = [run.stacks[0] if run.stacks else {} for run in (one, other)]
    told = [(name, *(card.get(name) for card in cards)) for name in STACK if name != "cann"]
    return [*environment_changes(one.header, other.header), *(fact for fact in told if fact[1] != fact[2])]


def _importance(difference: tuple[str, Any, Any]) -> tuple:
    name = difference[0]
    place = next((number for number, first in enumerate(FIRST) if name.startswith(first)), len(FIRST))
    return place, name.startswith("variable"), name


def _by_test(side: Sequence[Run]) -> dict[str, list[Mapping]]:
    found: dict[str, list[Mapping]] = {}
    for run in side:
        for record in run.all_tests():
            found.setdefault(record["nodeid"], []).append(record)
    return found


def _repeated(side: Sequence[Run]) -> dict[str, list[Mapping]]:
    """The records of tests that a run executed again (pytest --repeat)."""
    found: dict[str, list[Mapping]] = {}
    for repeat in (repeat for run in side for one in run.journals for repeat in one.repeats):
        if repeat["outcome"] in Outcome.__members__:
            found.setdefault(repeat["nodeid"], []).append(repeat)
    return found


def _change(
    nodeid: str, old: Sequence[Mapping], new: Sequence[Mapping], again: Sequence[Mapping[str, list[Mapping]]]
) -> Change | None:
    before, after = _outcomes(nodeid, old, again[0]), _outcomes(nodeid, new, again[1])
    kind = kind_of(before, after)
    if kind is None:
        return None
    records = [*reversed(new), *old]
    ended = [*reversed(new), *again[1].get(nodeid, ()), *old, *again[0].get(nodeid, ())]
    told = next((one for one in ended if one["outcome"] != Outcome.PASS), records[0])
    promise = [str(records[0][name]) for name in ("requirement", "sentence", "reproduce")]
    return Change(kind, nodeid, *promise, before, after, told.get("reason", ""))


def _outcomes(nodeid: str, side: Sequence[Mapping], again: Mapping[str, list[Mapping]]) -> tuple[Outcome, ...]:
    return tuple(Outcome(one["outcome"]) for one in (*side, *again.get(nodeid, ())))


def kind_of(before: Sequence[Outcome], after: Sequence[Outcome]) -> str | None:
    """What happened to a test with those outcomes (one for each run); None if nothing did."""
    if not before or not after:
        return "added" if after else "removed"
    old, new = ({class_of(outcome) for outcome in side} for side in (before, after))
    if len(new) > 1 or len(old) > 1:
        return "became flaky" if old == {"good"} else "flaky"
    was, is_ = old.pop(), new.pop()
    if was == is_:
        return None if set(before) == set(after) else "changed"
    if is_ == "bad":
        if set(after) == {Outcome.XPASS} and was != "good":
            return "fixed"  # the waiver is out of date, which the verdict of the run says
        return "exposed" if was in ("open", "none") else "regression"
    if is_ == "good":
        return "fixed"
    if is_ == "known":
        return "waived"
    return "lost" if was == "good" else "changed"


def class_of(outcome: Outcome) -> str:
    """ "good", "bad", "known" (waived), "open" (undecided) or "none" (unsupported)."""
    if outcome in FAILURES:
        return "bad"
    return {Outcome.PASS: "good", Outcome.XFAIL: "known", Outcome.UNSUPPORTED: "none"}.get(outcome, "open")


def _drifts(old: Sequence[Mapping], new: Sequence[Mapping]) -> list[Drift]:
    """The checks of a test that passed in every run of both sides."""
    if any(record["outcome"] != Outcome.PASS for record in (*old, *new)):
        return []
    before, after = (_used(side) for side in (old, new))
    record = new[0]
    return [
        Drift(record["nodeid"], record["requirement"], name, before[name, number], used)
        for (name, number), used in after.items()
        if (name, number) in before
    ]


def _used(side: Sequence[Mapping]) -> dict[tuple[str, int], float]:
    """What each check used of its limit; a check is known by its name and its place among those of that name."""
    found: dict[tuple[str, int], list[float]] = {}
    for record in side:
        seen: Counter[str] = Counter()
        for one in measurements.headrooms(record):
            if one.limit is not None:
                found.setdefault((one.check, seen[one.check]), []).append(one.used)
                seen[one.check] += 1
    return {key: median(values) for key, values in found.items()}


def _moved(before: float, after: float) -> bool:
    return after - before >= DRIFT_STEP and after >= DRIFT_RATIO * before


def _speeds(before: Sequence[Run], after: Sequence[Run]) -> list[Speed]:
    old, new = (_timed(side) for side in (before, after))
    found = [performance.compare(old[key], new[key]) for key in old if key in new]
    return sorted(found, key=lambda one: -one.ratio)


def _timed(side: Sequence[Run]) -> dict[tuple[str, int], list[measurements.Performance]]:
    found: dict[tuple[str, int], list[measurements.Performance]] = {}
    for run in side:
        for key, one in measurements.all_performances(run.tests).items():
            found.setdefault(key, []).append(one)
    return found


def _pairs(old: Mapping, new: Mapping) -> list[Pair]:
    before = {curve.name: curve for curve in measurements.curves(old)}
    return [
        Pair(new["nodeid"], new["requirement"], before[curve.name], curve)
        for curve in measurements.curves(new)
        if curve.name in before
    ]


def _obstacles(before: Sequence[Run], after: Sequence[Run], old: Mapping, new: Mapping, subset: bool) -> list[str]:
    found = []
    for name, side in (("BASE", before), ("NEW", after)):
        for run in side:
            if not run.complete:
                found.append(
                    f"{name}: {run.journals[0].path}: the run was killed before it ended; what it did not reach is not "
                    "known. Finish it with pytest --resume, or run it again"
                )
            for what, ours, theirs in differences(side[0], run):
                found.append(
                    f"{name}: {run.journals[0].path} is no repeat of {side[0].journals[0].path}: {what} is {theirs}, "
                    f"not {ours}. Give runs of one environment"
                )
    emulated = [("on emulated cards" if side[0].emulated else "on real cards") for side in (before, after)]
    if emulated[0] != emulated[1]:
        found.append(f"BASE ran {emulated[0]}, NEW {emulated[1]}; neither says anything about the other")
    chips = [side[0].chip for side in (before, after)]
    if None not in chips and chips[0] != chips[1]:
        found.append(f"BASE ran on {chips[0]}, NEW on {chips[1]}: limits and features differ between chips")
    gone = [nodeid for nodeid in old if nodeid not in new]
    if len(gone) == len(old):
        found.append("no test is in both BASE and NEW; run the same selection of the suite on both")
    elif gone and not subset and before[0].header.get("revision") == after[0].header.get("revision"):
        found.append(
            f"NEW leaves out {len(gone)} of the {len(old)} tests of BASE though both are of one revision of the suite: "
            f"{gone[0]}, for one; run the same selection, or say --subset if that is meant"
        )
    return found


def _notes(before: Sequence[Run], after: Sequence[Run]) -> list[str]:
    notes = []
    revisions = [str(side[0].header.get("revision"))[:12] for side in (before, after)]
    if revisions[0] != revisions[1]:
        notes.append(
            f"the suite itself is another: revision {revisions[0]}, then {revisions[1]}; tests and limits may differ"
        )
    for name, side in (("BASE", before), ("NEW", after)):
        if side[0].header.get("modified"):
            notes.append(f"{name} ran a suite with changes that are not committed")
    if min(len(before), len(after)) == 1:
        notes.append(
            "one run on a side: a flaky test cannot be told from a regression, nor slower steps from a busy machine; "
            "give directories with several runs each to decide"
        )
    return notes

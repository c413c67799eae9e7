"""From test records to requirements to one verdict: pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reports import profiles
from reports.conditions import Facts
from reports.outcome import FAILURES, UNDECIDED, Outcome

CONFORMANT, NOT_CONFORMANT, INCOMPLETE = "CONFORMANT", "NOT CONFORMANT", "INCOMPLETE"

# A requirement has the outcome of its worst test.
SEVERITY = (
    *(Outcome.DEVICE_LOST, Outcome.CRASH, Outcome.TIMEOUT, Outcome.FAIL, Outcome.XPASS, Outcome.VACUOUS),
    *(Outcome.INFRA, Outcome.NOT_RUN, Outcome.XFAIL, Outcome.PASS, Outcome.UNSUPPORTED),
)


@dataclass(frozen=True)
class Verdict:
    """What a run says about the stack.

    Attributes:
        verdict: CONFORMANT, NOT CONFORMANT or INCOMPLETE.
        requirements: outcome of each requirement, by id.
        counts: number of requirements by outcome.
        problems: waivers that are out of order, in words.
        profile: the name of the profile that the run answers; None without one.
        absent: what the profile requires and was not selected, in words.
        unanswered: required tests that neither passed nor failed, and that the profile does not excuse, in words.
    """

    verdict: str
    requirements: Mapping[str, Outcome]
    counts: Mapping[Outcome, int]
    problems: tuple[str, ...] = ()
    profile: str | None = None
    absent: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()


def aggregate(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome of a requirement whose tests ended so (at least one)."""
    return min(outcomes, key=SEVERITY.index)


def judge(records: Sequence[Mapping], plan: Mapping | None = None, facts: Facts | None = None) -> Verdict:
    """The verdict over test records (type "test" of the journal; one for each selected test).

    NOT CONFORMANT with any failure; else INCOMPLETE where anything that was asked for did not run, nothing passed, or a
    waiver is out of order; else CONFORMANT. A waived failure (XFAIL) does not prevent CONFORMANT; it is always counted.
    What was asked for is what the run selected, or what its profile requires.

    Args:
        records: of tests.
        plan: what the run was to be, as the journal's "selection" records it.
        facts: of the stack, which decide what a profile excuses.
    """
    tests: dict[str, list[Outcome]] = {}
    for record in records:
        tests.setdefault(record["requirement"], []).append(Outcome(record["outcome"]))
    requirements = {id: aggregate(outcomes) for id, outcomes in sorted(tests.items())}
    counts = Counter(requirements.values())
    plan, facts = plan or {}, facts or Facts()
    problems, profile = tuple(plan.get("waiver_problems") or ()), plan.get("profile")
    absent = tuple(profiles.absent(profile, records, facts)) if profile else ()
    unanswered = tuple(profiles.unanswered(profile, records, facts)) if profile else ()
    undecided = absent or unanswered if profile else any(counts[outcome] for outcome in UNDECIDED)
    if any(counts[outcome] for outcome in FAILURES):
        verdict = NOT_CONFORMANT
    elif undecided or problems or not counts[Outcome.PASS]:
        verdict = INCOMPLETE
    else:
        verdict = CONFORMANT
    return Verdict(verdict, requirements, counts, problems, profile and profile["name"], absent, unanswered)


def verdict_line(verdict: Verdict, header: Mapping) -> str:
    """The last line of a run: verdict, on which model if on one, on which cards, whether emulated, and the counts."""
    cards = header.get("cards")
    kind = "EMULATED " if header.get("emulated") else ""
    where = f"{len(cards)} {kind}card{'s' * (len(cards) != 1)}" if cards else "no card"
    chip = f" ({header['chip']})" if cards and header.get("chip") else ""
    words = {Outcome.PASS: "passed", Outcome.XFAIL: "waived", Outcome.NOT_RUN: "not run"}
    counted = [f"{verdict.counts[o]} {words.get(o, o.value)}" for o in Outcome if verdict.counts.get(o)]
    wrong = len(verdict.problems)
    more = f"; {wrong} waiver{'s' * (wrong != 1)} out of order" if wrong else ""
    left = len(verdict.absent) + len(verdict.unanswered)
    more += f"; {left} required left open" if left else ""
    claim = f" to {verdict.profile}" if verdict.profile else ""
    told = ", ".join(counted) or "no requirement was selected"
    model = f" with a small {header['model']['architecture']}" if header.get("model") else ""
    return f"verdict: {verdict.verdict}{claim}{model} on {where}{chip}: {told}{more}"

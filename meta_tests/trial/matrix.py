"""The kill matrix: what each fault did to each requirement. Pure functions of results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from meta_tests.trial.catalogue import Fault
from meta_tests.trial.forks import Ran, TestResult
from reports.outcome import FAILURES, Outcome

KILLED, MISSED, SURVIVED, NOT_FIRED, IMPURE = "killed", "missed", "survived", "not fired", "impure"


@dataclass(frozen=True)
class Cell:
    """What a fault did to a requirement.

    Attributes:
        outcome: the worst of its tests.
        killed: it turned red.
        after: seconds from the start of the run until it did, or until its last test ended.
        test: the node id of the first red test, or "".
        reason: the first line of why.
        called: that test was past its set-up when it failed.
    """

    outcome: str
    killed: bool
    after: float
    test: str = ""
    reason: str = ""
    called: bool = True


@dataclass(frozen=True)
class Row:
    """What became of a fault.

    Attributes:
        status: "killed" by all requirements that must catch it; "missed" by some of them; "survived" all; "not fired";
            "impure" where something turned red although the fault never fired.
        missed: the requirements that must catch it and did not.
        fired: how often, over all processes.
        seconds, cpu: of all its runs together, by the clock and of the processor.
        cells: by requirement id.
    """

    fault: Fault
    status: str
    missed: tuple[str, ...]
    fired: int
    seconds: float
    cpu: float
    cells: Mapping[str, Cell]

    def as_json(self) -> dict:
        """For the file of the matrix."""
        return {**asdict(self.fault), **{k: v for k, v in asdict(self).items() if k != "fault"}}


def row(fault: Fault, wanted: Mapping[str, Sequence[str]], owners: Mapping[str, str], done: Sequence[Ran]) -> Row:
    """Judges a fault.

    Args:
        fault: the fault.
        wanted: node ids by entry of ``fault.requirements``.
        owners: requirement id by node id.
        done: all runs under it.
    """
    results = [result for ran in done for result in ran.results]
    fired = sum(ran.fired for ran in done)
    by_requirement: dict[str, list[TestResult]] = {}
    for result in results:
        by_requirement.setdefault(owners[result.nodeid], []).append(result)
    cells = {id: _cell(own) for id, own in sorted(by_requirement.items())}
    red = {result.nodeid for result in results if Outcome(result.outcome) in FAILURES}
    caught = {result.nodeid for result in results if result.nodeid in red and (fault.loud or _speaks(result))}
    missed = tuple(name for name, nodes in wanted.items() if not caught.intersection(nodes))
    if not fired:
        status = IMPURE if red else NOT_FIRED
    elif not red:
        status = SURVIVED
    else:
        status = MISSED if missed else KILLED
    seconds, cpu = sum(ran.seconds for ran in done), sum(ran.cpu for ran in done)
    return Row(fault, status, missed, fired, round(seconds, 2), round(cpu, 2), cells)


def _speaks(result: TestResult) -> bool:
    """Whether the test itself failed, rather than the question with a known answer before or after it."""
    return result.called and result.outcome != str(Outcome.DEVICE_LOST)


def _cell(results: Sequence[TestResult]) -> Cell:
    red = [result for result in results if Outcome(result.outcome) in FAILURES]
    if red:
        first = min(red, key=lambda result: result.after)
        reason = next((line.strip() for line in first.reason.splitlines() if "measured:" in line), first.reason)
        lines = reason.strip().splitlines() or [""]
        return Cell(first.outcome, True, first.after, first.nodeid, lines[0][:300], first.called)
    outcomes = Counter(result.outcome for result in results)
    outcome = next(name for name in ("PASS", *outcomes) if outcomes[name])
    return Cell(outcome, False, max(result.after for result in results))


def proofs(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The ids of the faults that turned a requirement red, by requirement.

    Loud faults end any test and prove nothing; nor does a test that failed in its set-up, where the card is confirmed
    and asked for a known answer, before the requirement had a say, or one that only that question found out.
    """
    lost = str(Outcome.DEVICE_LOST)
    found: dict[str, list[str]] = {}
    for one in rows:
        for requirement, cell in one.cells.items():
            if cell.killed and cell.called and cell.outcome != lost and not one.fault.loud:
                found.setdefault(requirement, []).append(one.fault.id)
    return found


def families(rows: Sequence[Row]) -> dict[str, Counter]:
    """Numbers of faults by family and status."""
    counted: dict[str, Counter] = {}
    for one in rows:
        counted.setdefault(one.fault.family, Counter())[one.status] += 1
    return counted


def line(one: Row) -> str:
    """A fault in one line for a terminal."""
    killers = ", ".join(f"{id} ({cell.after:g} s)" for id, cell in one.cells.items() if cell.killed)
    text = f"{one.status:9} {one.fault.id}: "
    if one.status in (KILLED, MISSED):
        text += f"by {killers}"
    if one.status == SURVIVED:
        outcomes = ", ".join(f"{id} {cell.outcome}" for id, cell in one.cells.items())
        text += f"fired {one.fired} times; {outcomes}"
    if one.status == NOT_FIRED:
        text += one.fault.line or one.fault.patch
    if one.missed and one.status == MISSED:
        text += f"; not by {', '.join(one.missed)}"
    return text

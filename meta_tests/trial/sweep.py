"""The sweep: every operator that the suite calls lies in the same few ways, whatever the catalogue has about it.

The catalogue has the faults that somebody thought of. The sweep asks for the others: which operators may be wrong
without any requirement turning red?
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from meta_tests.trial import forks, targeted
from meta_tests.trial.catalogue import matches
from meta_tests.trial.forks import ROOT, TrialError
from meta_tests.trial.matrix import KILLED, NOT_FIRED, SURVIVED
from reports.outcome import FAILURES, Outcome

LIES = {
    "scale=1.05": "results are 5 % too large",
    "zero": "results are zero",
    "tail=1": "the last element is not written",
    "stale": "the previous call's result",
}
# How many of the tests that call an operator are asked, the quickest first, until one turns red.
ROUNDS = (3, 9, 27, 81)


@dataclass(frozen=True)
class Asked:
    """What became of one lie of one operator.

    Attributes:
        operator, lie: as in NPU_EMULATOR_FAULTS.
        status: killed, survived (it fired, and no test that calls the operator turned red) or not fired.
        by: the node ids that turned red in the round that killed it.
        tests: how many tests were run.
        callers: how many tests of one card call the operator.
    """

    operator: str
    lie: str
    status: str
    by: tuple[str, ...]
    tests: int
    callers: int

    def as_json(self) -> dict:
        """For sweep.json."""
        return {**vars(self), "by": list(self.by)}


def operators(pattern: str = "*") -> list[str]:
    """The emulator's operators whose names match a shell pattern, several by commas.

    Raises:
        TrialError: no operator matches.
    """
    command = [sys.executable, "-m", "emulator", "--info", "--operators", "--json"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [one["name"] for one in json.loads(told)["operators"]]
    chosen = [name for name in names if matches(name, pattern)]
    if not chosen:
        raise TrialError(f"--operators {pattern}: no such operator; python -m emulator --info --operators lists them")
    return chosen


def lies_named(pattern: str) -> list[str]:
    """The lies that match a shell pattern, several by commas.

    Raises:
        TrialError: none matches.
    """
    chosen = [lie for lie in LIES if matches(lie, pattern)]
    if not chosen:
        raise TrialError(f"--lies {pattern}: no such lie; there are {', '.join(LIES)}")
    return chosen


def callers(
    store: targeted.Store,
    plan: targeted.Plan,
    names: Iterable[str],
    jobs: int,
    say: Callable[[str], None],
    chosen: str = "*",
) -> dict[str, list[str]]:
    """The tests of one card that call each operator and pass on an honest card, the quickest first.

    ``chosen``: shell patterns of the node ids of tests, several by commas.

    A fault that changes nothing counts the calls of each operator, and the forked process notes which fired in a test.
    """
    line = ";".join(f"{name}:delay=0" for name in names)
    tests = [test["nodeid"] for test in plan.tests if not test["multi"] and matches(test["nodeid"], chosen)]
    if not tests:
        raise TrialError(f"--tests {chosen}: no test of one card has such a node id")
    runs = []
    for part, chunk in enumerate(forks.chunks(tests, 4 * jobs)):
        runs += plan.runs(f"callers-{part}", chunk, {"NPU_EMULATOR_FAULTS": line})
    found: dict[str, list[tuple[float, str]]] = {}
    for ran in targeted.executed(store, runs, jobs):
        for result in ran.results:
            if result.outcome == str(Outcome.PASS):
                for fault in result.fired:
                    found.setdefault(fault.split(":")[0], []).append((result.seconds, result.nodeid))
        say(f"callers   {ran.run.name}: {len(ran.results)} tests in {ran.seconds:g} s")
    return {name: [nodeid for _, nodeid in sorted(pairs)] for name, pairs in sorted(found.items())}


def sweep(
    store: targeted.Store,
    plan: targeted.Plan,
    called: Mapping[str, Sequence[str]],
    jobs: int,
    say: Callable[[str], None],
    lies: Sequence[str] = tuple(LIES),
) -> list[Asked]:
    """Has every operator tell the lies, until a test that calls it turns red or all that are asked stayed green."""
    open_ = [(name, lie) for name in called for lie in lies]
    fired: Counter[tuple[str, str]] = Counter()
    asked: dict[tuple[str, str], Asked] = {}
    for begin, end in pairwise(accumulate(ROUNDS, initial=0)):
        runs = {}
        for name, lie in open_:
            tests = called[name][begin:end]
            for run in plan.runs(f"sweep-{name}-{lie}-{begin}", tests, {"NPU_EMULATOR_FAULTS": f"{name}:{lie}"}):
                runs[run.name] = (name, lie), run
        for ran in targeted.executed(store, [run for _, run in runs.values()], jobs):
            pair = runs[ran.run.name][0]
            fired[pair] += ran.fired
            red = tuple(r.nodeid for r in ran.results if Outcome(r.outcome) in FAILURES and r.called)
            callers_ = len(called[pair[0]])
            status = KILLED if red else SURVIVED if fired[pair] else NOT_FIRED
            asked[pair] = Asked(*pair, status, red, min(end, callers_), callers_)
            if red:
                say(f"killed    {':'.join(pair)} by {red[0]}")
        open_ = [pair for pair in open_ if asked[pair].status != KILLED and len(called[pair[0]]) > end]
    for one in asked.values():
        if one.status == SURVIVED:
            say(f"survived  {one.operator}:{one.lie} in {one.tests} of {one.callers} tests that call it")
    return sorted(asked.values(), key=lambda one: (one.operator, one.lie))


def report(asked: Sequence[Asked]) -> dict:
    """The sweep as JSON: totals by lie, and each operator's."""
    counts = Counter((one.lie, one.status) for one in asked)
    statuses = (KILLED, SURVIVED, NOT_FIRED)
    return {
        "schema": 1,
        "lies": [
            {"lie": lie, "what": what, **{status: counts[lie, status] for status in statuses}}
            for lie, what in LIES.items()
            if any(one.lie == lie for one in asked)
        ],
        "operators": len({one.operator for one in asked}),
        "asked": [one.as_json() for one in asked],
    }

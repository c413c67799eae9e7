"""The sweep: which tests are asked about an operator, and what is said of it."""

import json

import pytest

from meta_tests.trial import forks, sweep, targeted
from meta_tests.trial.forks import Ran, TestResult

TESTS = [f"t.py::test_{n}" for n in range(20)]


@pytest.fixture
def plan():
    """A suite of twenty tests of one card, and one of several."""
    one = {"requirement": "demo/one", "multi": False, "model": False}
    several = {"requirement": "demo/two", "multi": True, "model": False, "nodeid": "t.py::test_two_cards"}
    return targeted.plan([], [*({**one, "nodeid": node} for node in TESTS), several], False)


@pytest.fixture
def answers(monkeypatch):
    """Has runs end as a function of the test and the fault says: (outcome, fired). Returns the runs that were made."""
    made = []

    def install(answer):
        def execute(runs, directory, references, jobs):
            for run in runs:
                made.append(run)
                ends = [answer(test, run.environment["NPU_EMULATOR_FAULTS"]) for test in run.tests]
                results = [
                    TestResult(test, outcome, "", float(TESTS.index(test)), 1.0, True, fired)
                    for test, (outcome, fired) in zip(run.tests, ends, strict=True)
                ]
                yield Ran(run, tuple(results), sum(len(result.fired) for result in results), 1.0, 1.0)

        monkeypatch.setattr(forks, "execute", execute)
        return made

    return install


def test_callers_pass_and_are_of_one_card(tmp_path, plan, answers):
    """An operator's callers are the tests of one card during which it was called, the quickest first, if they pass."""

    def answer(test, line):
        assert line == "aclnnA:delay=0;aclnnB:delay=0"
        calls = ("aclnnA:delay=0",) if test in (TESTS[9], TESTS[2], TESTS[5]) else ()
        return ("XFAIL" if test == TESTS[5] else "PASS"), calls

    answers(answer)
    called = sweep.callers(targeted.Store(tmp_path, resume=True), plan, ["aclnnA", "aclnnB"], 1, lambda line: None)

    assert called == {"aclnnA": [TESTS[2], TESTS[9]]}


def test_more_tests_are_asked_until_one_turns_red(tmp_path, plan, answers):
    """A lie that the quickest tests bear is put before more of them, and a lie that changed nothing did not survive."""

    def answer(test, line):
        if line == "aclnnA:scale=1.05":
            return ("FAIL" if test == TESTS[7] else "PASS"), (line,)
        return "PASS", ((line,) if line == "aclnnA:zero" else ())

    made = answers(answer)
    asked = sweep.sweep(targeted.Store(tmp_path, resume=True), plan, {"aclnnA": TESTS}, 1, lambda line: None)

    found = {one.lie: (one.status, one.by, one.tests, one.callers) for one in asked}
    assert found == {
        "scale=1.05": ("killed", (TESTS[7],), 12, 20),
        "zero": ("survived", (), 20, 20),
        "tail=1": ("not fired", (), 20, 20),
        "stale": ("not fired", (), 20, 20),
    }
    assert [len(run.tests) for run in made if run.environment["NPU_EMULATOR_FAULTS"] == "aclnnA:scale=1.05"] == [3, 9]


def test_a_report_counts_by_lie(tmp_path):
    """The report has a line for each lie, and it is JSON."""
    asked = [
        sweep.Asked("aclnnA", "zero", "killed", (TESTS[0],), 3, 20),
        sweep.Asked("aclnnB", "zero", "survived", (), 1, 1),
    ]

    found = json.loads(json.dumps(sweep.report(asked)))

    (zero,) = found["lies"]
    assert (zero["lie"], zero["killed"], zero["survived"], zero["not fired"], found["operators"]) == (
        "zero",
        1,
        1,
        0,
        2,
    )


def test_an_operator_that_is_not_there_is_refused(built):
    """A pattern without an operator is refused, with the command that lists them."""
    with pytest.raises(forks.TrialError, match="--operators aclnnNothing: no such operator"):
        sweep.operators("aclnnNothing")


def test_a_lie_or_a_test_that_is_not_there_is_refused(tmp_path, plan):
    """A pattern without a lie, or without a test, is refused."""
    with pytest.raises(forks.TrialError, match="--lies scale: no such lie; there are scale"):
        sweep.lies_named("scale")
    with pytest.raises(forks.TrialError, match="--tests nothing: no test of one card"):
        sweep.callers(targeted.Store(tmp_path, resume=True), plan, ["aclnnA"], 1, lambda line: None, "nothing")

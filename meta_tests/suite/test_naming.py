"""The trial's measure of localisation: which faults it takes, where they fire, and how answers are counted."""

import json
from pathlib import Path

import pytest

from meta_tests.trial import catalogue, localisation, targeted
from meta_tests.trial.catalogue import Fault
from meta_tests.trial.forks import Ran, Run, TestResult, _Progress
from meta_tests.trial.localisation import Named
from meta_tests.trial.targeted import Store
from reports import suite

ROOT = Path(__file__).resolve().parents[2]
TEST = "t.py::test_step"


def fault(line: str, id: str = "wrong", family: str = "forward", **more) -> Fault:
    return Fault(id, family, "It lies.", ("demo/step",), line, **more)


def named(id: str, status: str = localisation.NAMED, calls: tuple = ("aclnnMm",), reproduces: bool = True) -> Named:
    return Named(id, "forward", "aclnnMm:scale=2", status, TEST, "aten.mm.default", calls, "", reproduces)


def test_the_trainings_are_of_the_suite():
    """Every training that is asked is a requirement of the suite."""
    declared = {one.id for one in suite.declared(ROOT)}

    assert {entry.partition("[")[0] for group in localisation.TRAININGS for entry in group} <= declared


@pytest.mark.parametrize(
    ("line", "watched"),
    [
        ("aclnnMm:scale=1.01", "aclnnMm:delay=0"),
        ("aclnnMm:scale=1.01,output=1@dtype=fp16,every=2", "aclnnMm:delay=0@dtype=fp16,every=2"),
        ("aclnnMm:null; aclnnM?l*:zero@after=1", "aclnnMm:delay=0;aclnnM?l*:delay=0@after=1"),
    ],
)
def test_calls_are_watched_without_a_change(line, watched):
    """A watching line has the patterns and selectors of the fault and changes nothing."""
    assert localisation.watching(line) == watched
    assert localisation.patterns(line) == localisation.patterns(watched)


def test_faults_of_operators_are_measured():
    """Of the catalogue those that are silent and of operators alone."""
    taken = fault("aclnnMm:scale=2;aclnnAdd:null")
    others = [
        fault("aclrtMemcpy:null;aclnnMm:scale=2"),
        fault("HcclAllReduce:zero"),
        fault("aclnnMm:crash", family="crash"),
        fault("aclnnMm:scale=2", environment={"NPU_EMULATOR_SOC": "Ascend910A"}),
        fault("", patch="peft_chooses_the_cpu"),
    ]

    assert localisation.of_operators([*others, taken]) == [taken]
    assert len(localisation.of_operators(catalogue.read().faults)) > 100


def test_faults_of_several_cards_are_not_of_one():
    """A fault of which a test needs several cards may name one that a training on one card does not have."""
    tests = [{"requirement": f"demo/{cards}", "nodeid": cards, "multi": cards == "two"} for cards in ("one", "two")]
    wanted = {"a": {"demo/one": ["one"]}, "b": {"demo/one": ["one"], "demo/two": ["two"]}}
    plan = targeted.Plan(tests, wanted, full=False)

    assert plan.of_one_card(fault("aclnnMm:scale=2", "a"))
    assert not plan.of_one_card(fault("aclnnMm:scale=2@card=1", "b"))


def test_figures():
    """The share is of the faults that made a comparison fail; those that no training showed are listed apart."""
    faults = [fault("aclnnMm:scale=2", id) for id in ("a", "b", "c", "quiet", "elsewhere")]
    found = [named("a"), named("b", calls=("aclnnCast", "aclnnMm"), reproduces=False), named("c", localisation.ANOTHER)]

    figures = localisation.figures(faults, {"a", "b", "c", "quiet"}, found)

    assert (figures["faults"], figures["killed"], figures["named"], figures["share"]) == (5, 3, 2, 0.6667)
    assert figures["families"] == {"forward": {"killed": 3, "named": 2, "alone": 1, "reproduced": 1}}
    assert (figures["passed"], figures["uncalled"]) == (["quiet"], ["elsewhere"])
    assert localisation.figures(faults, set(), [])["share"] is None


FACTS = {"kind": "localised", "operator": "aten.mm.default", "module": "layer.0", "reproduces": True, "said": "wrong"}


@pytest.mark.parametrize(
    ("outcome", "checks", "findings", "status"),
    [
        ("PASS", [True], [], None),
        ("FAIL", [True], [{**FACTS, "calls": ["aclnnMm"]}], None),
        ("DEVICE_LOST", [False], [], None),
        ("FAIL", [True, False], [{**FACTS, "calls": ["aclnnCast", "aclnnMm"]}], "named"),
        ("FAIL", [False], [{**FACTS, "calls": ["aclnnAdd"]}], "another"),
        ("FAIL", [False], [{**FACTS, "calls": []}], "another"),
        ("FAIL", [False], [{"kind": "localised", "replayed": 200}], "none"),
        ("FAIL", [False], [{"kind": "cpu-fallback"}], "not tried"),
    ],
)
def test_an_answer_is_read_from_the_evidence(tmp_path, outcome, checks, findings, status):
    """An answer counts where a comparison failed: the faulty operator, another one, none, or nothing said."""
    directory = tmp_path / "work" / "run" / "1" / "run"
    directory.mkdir(parents=True)
    record = {"type": "test", "checks": [{"passed": passed} for passed in checks], "findings": findings}
    (directory / "journal.jsonl").write_text(json.dumps({"type": "header"}) + "\n" + json.dumps(record) + "\n")
    ran = Ran(Run("run", (TEST,)), (TestResult(TEST, outcome, "why\nso", 1.0, 1.0, True),), 3, 1.0, 1.0)

    said = localisation._said(Store(tmp_path, resume=True), fault("aclnnM*:scale=2"), ran)

    assert (said and said.status) == status


def test_callers_are_told_by_what_fired_meanwhile(tmp_path, monkeypatch):
    """A training calls what a fault is of where that fired between its begin and its end."""
    mm, add = fault("aclnnMm:scale=2", "mm"), fault("aclnnAdd:null;aclnnMul:null", "add")
    tests = ("a", "b", "waived")
    fired = (("aclnnMm:delay=0",), ("aclnnMul:delay=0",), ("aclnnMm:delay=0",))
    outcomes = ("PASS", "PASS", "XFAIL")

    def execute(runs, directory, references, jobs):
        (run,) = runs
        assert run.environment["NPU_EMULATOR_FAULTS"] == "aclnnAdd:delay=0;aclnnMm:delay=0;aclnnMul:delay=0"
        three = zip(tests, outcomes, fired, strict=True)
        yield Ran(
            run, tuple(TestResult(test, outcome, "", 1, 1, True, own) for test, outcome, own in three), 3, 1.0, 1.0
        )

    monkeypatch.setattr(localisation.forks, "execute", execute)
    callers = localisation._callers(Store(tmp_path, resume=True), 0, [mm, add], tests, lambda line: None)

    assert callers == {"mm": {"a"}, "add": {"b"}}


def test_progress_tells_what_fired_during_a_test(tmp_path):
    """What fired before a test, or in another process of it, is told apart from what did not fire meanwhile."""
    file, log = tmp_path / "progress", tmp_path / "log"

    def fires(**counts: int) -> None:
        log.write_text("".join(json.dumps({"fault": name, "fired": count}) + "\n" for name, count in counts.items()))

    fires(earlier=2)
    progress = _Progress(file, log)
    for test, counts in {"a": {"earlier": 2, "mm": 3}, "b": {"earlier": 3, "mm": 3, "add": 0}}.items():
        progress.pytest_runtest_logstart(test)
        fires(**counts)
        progress.pytest_runtest_logfinish(test)

    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert {one["nodeid"]: one["fired"] for one in events if one["event"] == "ended"} == {"a": ["mm"], "b": ["earlier"]}

"""From outcomes to requirements to one verdict, and what a reader sees of it."""

import itertools

import pytest

from reports import summary
from reports.conditions import Facts
from reports.outcome import Outcome
from reports.verdict import SEVERITY, aggregate, judge, verdict_line

CARDS = {"cards": [0, 1], "emulated": True, "chip": "Ascend910B3"}


def record(outcome: str, requirement: str = "demo/thing", **more) -> dict:
    """A test record."""
    return {
        "nodeid": f"tests/test_{requirement}.py::test",
        "requirement": requirement,
        "library": requirement.split("/")[0],
        "sentence": "A thing works.",
        "features": ["single_npu"],
        "waiver": None,
        "reproduce": "python -m pytest x",
        "outcome": outcome,
        "reason": "because",
        "findings": [],
        **more,
    }


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([], "INCOMPLETE"),
        (["PASS"], "CONFORMANT"),
        (["PASS", "XFAIL", "UNSUPPORTED"], "CONFORMANT"),
        (["XFAIL"], "INCOMPLETE"),
        (["UNSUPPORTED"], "INCOMPLETE"),
        (["PASS", "NOT_RUN"], "INCOMPLETE"),
        (["PASS", "INFRA"], "INCOMPLETE"),
        *((["PASS", bad], "NOT CONFORMANT") for bad in ("FAIL", "XPASS", "VACUOUS", "CRASH", "TIMEOUT", "DEVICE_LOST")),
        (["INFRA", "FAIL"], "NOT CONFORMANT"),
    ],
)
def test_verdicts(outcomes, verdict):
    """Any failure is NOT CONFORMANT; anything undecided, or nothing passed, is INCOMPLETE; else CONFORMANT."""
    records = [record(outcome, f"demo/thing-{number}") for number, outcome in enumerate(outcomes)]

    assert judge(records).verdict == verdict


def test_every_outcome_counts():
    """Each outcome alone gives a verdict, and only PASS gives CONFORMANT."""
    assert [o for o in Outcome if judge([record(o.value)]).verdict == "CONFORMANT"] == [Outcome.PASS]


def test_a_requirement_is_as_good_as_its_worst_test():
    """A requirement with one failed test of several has failed."""
    judged = judge([record("PASS"), record("FAIL"), record("UNSUPPORTED")])

    assert judged.requirements == {"demo/thing": Outcome.FAIL}
    assert judged.counts == {Outcome.FAIL: 1}


def test_the_last_line_says_emulated():
    """The verdict line says on which cards, and that they were emulated."""
    line = verdict_line(judge([record("PASS"), record("XFAIL", "demo/other")]), CARDS)

    assert line == (
        "verdict: CONFORMANT on 2 EMULATED cards (Ascend910B3): 1 passed, 1 waived"
    )  # fmt: skip


def test_the_last_line_of_a_real_card():
    """A real card is not called emulated."""
    assert verdict_line(judge([record("PASS")]), {"cards": [3], "chip": "Ascend910B3"}) == (
        "verdict: CONFORMANT on 1 card (Ascend910B3): 1 passed"
    )


def test_the_last_line_names_a_model():
    """What was tested on a small copy of the user's own model is said of that model, with the profile before it."""
    judged = judge([record("PASS")], {"profile": {**PROFILE, "required": []}})
    header = {**CARDS, "model": {"architecture": "LlamaForCausalLM", "path": "llama"}}

    assert verdict_line(judged, header) == (
        "verdict: CONFORMANT to training-core with a small LlamaForCausalLM on 2 EMULATED cards (Ascend910B3): 1 passed"
    )
    assert " with a " not in verdict_line(judged, {**CARDS, "model": None})


PROFILE = {
    "name": "training-core",
    "required": [{"id": f"demo/{name}", "level": "core", "features": ["single_npu"]} for name in ("a", "b")],
    "unless": [{"id": ["demo/b"], "when": {"soc": ["Ascend910A*"]}, "reason": "no bfloat16"}],
    "deselected": [],
}


@pytest.mark.parametrize(
    ("records", "soc", "line"),
    [
        (
            [record("PASS", "demo/a"), record("PASS", "demo/b")],
            None,
            "CONFORMANT to training-core on no card: 2 passed",
        ),
        (
            [record("PASS", "demo/a")],
            None,
            "INCOMPLETE to training-core on no card: 1 passed; 1 required left open",
        ),
        ([record("PASS", "demo/a")], "Ascend910A", "CONFORMANT to training-core on no card: 1 passed"),
        (
            [record("PASS", "demo/a"), record("UNSUPPORTED", "demo/b", level="core")],
            None,
            "INCOMPLETE to training-core on no card: 1 passed, 1 UNSUPPORTED; 1 required left open",
        ),
        (
            [record("NOT_RUN", "demo/a", level="core")],
            None,
            "INCOMPLETE to training-core on no card: 1 not run; 2 required left open",
        ),
        (
            [record("PASS", "demo/a"), record("PASS", "demo/b"), record("NOT_RUN", "demo/other", level="core")],
            None,
            "CONFORMANT to training-core on no card: 2 passed, 1 not run",
        ),
    ],
)
def test_a_profile_says_what_must_run(records, soc, line):
    """Under a profile what it requires decides, and what it excuses does not; the last line names it."""
    judged = judge(records, {"profile": PROFILE}, Facts(soc))

    assert judged.profile == "training-core"
    assert verdict_line(judged, {}) == f"verdict: {line}"


@pytest.mark.parametrize(
    ("problems", "said"), [(["x"], "1 waiver out of order"), (["x", "y"], "2 waivers out of order")]
)
def test_waivers_out_of_order_leave_the_verdict_open(problems, said):
    """A waiver that is out of order makes a run INCOMPLETE, and is counted in its last line."""
    judged = judge([record("PASS")], {"waiver_problems": problems})

    assert judged.problems == tuple(problems)
    assert (judged.profile, judged.absent, judged.unanswered) == (None, (), ())
    assert verdict_line(judged, {"chip": "Ascend910B3"}) == f"verdict: INCOMPLETE on no card: 1 passed; {said}"
    assert judge([record("CRASH")], {"waiver_problems": problems}).verdict == "NOT CONFORMANT"
    under_a_profile = judge([record("PASS", "demo/a")], {"profile": PROFILE, "waiver_problems": problems})
    assert verdict_line(under_a_profile, {}).endswith(f"1 passed; {said}; 1 required left open")


@pytest.mark.parametrize(
    ("header", "where"),
    [
        ({}, "no card"),
        ({"chip": "Ascend910B3", "emulated": True}, "no card"),
        ({"cards": [0]}, "1 card"),
        ({"cards": [0], "chip": None, "emulated": False}, "1 card"),
        ({"cards": [0, 1, 2], "chip": "A", "emulated": True}, "3 EMULATED cards (A)"),
    ],
)
def test_the_last_line_of_an_empty_run(header, where):
    """It says on which cards nothing was selected."""
    assert verdict_line(judge([]), header) == f"verdict: INCOMPLETE on {where}: no requirement was selected"


@pytest.mark.parametrize(("worse", "better"), list(itertools.pairwise(SEVERITY)))
def test_the_worse_outcome_counts(worse, better):
    """A requirement has the worst outcome of its tests; those that say nothing come behind those that failed."""
    assert aggregate([better, worse, better]) is worse
    assert SEVERITY[:2] == (Outcome.DEVICE_LOST, Outcome.CRASH)
    assert set(SEVERITY) == set(Outcome)


def test_the_matrix_counts_requirements():
    """The matrix has a row for each library and a column for each feature; a skip is not a pass there."""
    records = [
        record("PASS", "accelerate/a", features=["fp16", "single_npu"]),
        record("FAIL", "accelerate/b"),
        record("UNSUPPORTED", "transformers/c"),
        record("XFAIL", "transformers/d"),
        record("NOT_RUN", "transformers/e"),
    ]

    rows = [line.split() for line in summary.matrix(records, 100)]

    assert rows == [
        ["requirements", "fp16", "single", "npu", "all"],
        ["accelerate", "1/1", "1/2", "1/2"],
        ["1", "failed", "1", "failed"],
        ["transformers", "-", "0/2", "0/2"],
        ["1", "waived", "1", "waived"],
        ["1", "open", "1", "open"],
    ]


def test_a_matrix_that_is_too_wide_stands_on_its_side():
    """Where the features do not fit beside each other they stand one below the other, and no word is cut."""
    features = ["big_model_inference", "checkpoint", "peft_adapter", "quantization", "single_npu"]
    records = [record("PASS", "accelerate/a", features=features), record("XFAIL", "transformers/b", features=["bf16"])]

    rows = [line.split() for line in summary.matrix(records, 60)]

    assert rows == [
        ["requirements", "accelerate", "transformers"],
        ["bf16", "-", "0/1"],
        ["1", "waived"],
        ["big", "model", "inference", "1/1", "-"],
        ["checkpoint", "1/1", "-"],
        ["peft", "adapter", "1/1", "-"],
        ["quantization", "1/1", "-"],
        ["single", "npu", "1/1", "-"],
        ["all", "1/1", "0/1"],
        ["1", "waived"],
    ]


def test_the_summary_names_what_to_look_at():
    """Failures, open ones, waived ones and findings each have a section; a run without them has none of these."""
    waiver = {"defect": "D1", "reason": "it is broken", "link": "https://example.org/1", "expires": "2027-05-25"}
    records = [
        record("FAIL", "demo/a", reason="AssertionError: requirement: demo/a\nexpected: 4\nmeasured: 5"),
        record("NOT_RUN", "demo/b", reason="no card"),
        record("NOT_RUN", "demo/c", reason="no card"),
        record("XFAIL", "demo/d", waiver=waiver),
        record("PASS", "demo/e", findings=[{"kind": "cpu-fallback", "operator": "aten::i0"}]),
    ]

    text = "\n".join(summary.lines(records, judge(records)))

    assert "FAIL demo/a: A thing works.\n" in text
    assert "      measured: 5\n      reproduce: python -m pytest x" in text
    assert "NOT_RUN 2 tests: no card" in text
    assert "  D1 in demo/d (until 2027-05-25)\n      it is broken\n      https://example.org/1\n" in text
    assert "cpu-fallback: aten::i0 [demo/e]" in text
    assert summary.lines([record("PASS")], judge([record("PASS")]))[2:] == []

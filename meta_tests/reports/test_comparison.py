"""Two sets of runs: what differs around them, what regressed, drifted, got slower, and what cannot be compared."""

import json
import re

import pytest
from made_runs import check, ended, made, records, runs, timed, write

from reports import __main__, comparison_page, performance
from reports.comparison import compare, kind_of
from reports.measurements import Performance
from reports.outcome import FAILURES, Outcome
from reports.run import load

P, F, X, N, U = Outcome.PASS, Outcome.FAIL, Outcome.XFAIL, Outcome.NOT_RUN, Outcome.UNSUPPORTED
HOSTILE = "<script>alert(1)</script>|`x` [a](javascript:b)\n# head"


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ([P], [P], None),
        ([P], [F], "regression"),
        ([X], [F], "regression"),
        ([P], [N], "lost"),
        ([P], [Outcome.INFRA], "lost"),
        ([P], [U], "lost"),
        ([P], [X], "waived"),
        ([F], [X], "waived"),
        ([F], [P], "fixed"),
        ([X], [P], "fixed"),
        ([N], [P], "fixed"),
        ([X], [Outcome.XPASS], "fixed"),
        ([N], [F], "exposed"),
        ([U], [F], "exposed"),
        ([F], [F], None),
        ([F], [Outcome.CRASH], "changed"),
        ([F], [N], "changed"),
        ([X], [N], "changed"),
        ([], [F], "added"),
        ([P], [], "removed"),
        ([P, P], [P, P], None),
        ([P, P], [F, F], "regression"),
        ([P, P], [P, F], "became flaky"),
        ([P, F], [P, F], "flaky"),
        ([P, F], [P, P], "flaky"),
        ([P, F], [F, F], "flaky"),
    ],
)
def test_what_happened_to_a_test(before, after, kind):
    """Every way from outcomes to outcomes has a kind; one that stopped passing is never quiet."""
    assert kind_of(tuple(before), tuple(after)) == kind


def test_no_way_from_a_pass_is_quiet():
    """Whatever a passed test becomes, but PASS, it is a change; a failure is a regression."""
    for outcome in set(Outcome) - {P}:
        kind = kind_of((P,), (outcome,))
        assert kind == ("regression" if outcome in FAILURES else "waived" if outcome is X else "lost")


def test_the_environment_comes_first(tmp_path):
    """What differs around the runs is told, CANN and driver first, the libraries and variables after."""
    header = {
        "cann": {"version": "9.1.0"},
        "driver": "25.5",
        "environment": {"INF_NAN_MODE_ENABLE": "0"},
        "versions": {"torch": "2.13.0", "torch_npu": "2.13.0.post1", "transformers": "5.24.0", "deepspeed": None},
    }
    before, after = runs(tmp_path / "a", ended()), runs(tmp_path / "b", ended(), header=header)

    found = compare(before, after)

    assert [(name, old, new) for name, old, new in found.environment] == [
        ("cann version", None, "9.1.0"),
        ("driver", None, "25.5"),
        ("versions torch_npu", "2.13.0", "2.13.0.post1"),
        ("versions transformers", "5.23.0", "5.24.0"),
        ("variable INF_NAN_MODE_ENABLE", "1", "0"),
    ]
    text = comparison_page.markdown(found, ["a", "b"])
    assert text.index("## Environment") < text.index("## Tests")


def test_drift_of_passing_checks(tmp_path):
    """A check that passes and uses notably more of its limit is a drift, not a regression; a little more is neither."""
    before = ended(checks=[check(0.1, "a"), check(0.2, "b"), check(0.9, "c"), check(0.001, "d")])
    after = ended(checks=[check(0.4, "a"), check(0.22, "b"), check(0.3, "c"), check(0.01, "d")])

    found = compare(runs(tmp_path / "a", before), runs(tmp_path / "b", after))

    assert [(drift.check, drift.before, drift.after) for drift in found.drifts] == [("a", 0.1, 0.4)]
    assert [drift.check for drift in found.gains] == ["c"]
    assert (found.checks, found.verdict) == (4, "NO REGRESSION")


def test_checks_of_failed_tests_do_not_drift(tmp_path):
    """Numbers of a test that failed on either side are no drift: its outcome says more."""
    found = compare(
        runs(tmp_path / "a", ended(checks=[check(0.1)])), runs(tmp_path / "b", ended("FAIL", checks=[check(0.9)]))
    )

    assert (found.checks, found.drifts, found.verdict) == (0, (), "REGRESSION")


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([[0.1] * 20], [[0.105] * 20], "alike"),
        ([[0.1] * 20], [[0.2] * 20], "slower"),
        ([[0.2] * 20], [[0.1] * 20], "faster"),
        ([[0.1] * 4], [[0.2] * 4], "unclear"),
        ([[0.1, 0.2] * 10], [[0.15, 0.25] * 10], "unclear"),
        ([[0.1] * 20, [0.11] * 20], [[0.2] * 20, [0.21] * 20], "slower"),
        ([[0.1] * 20, [0.2] * 20], [[0.2] * 20, [0.25] * 20], "unclear"),
    ],
)
def test_time_knows_its_scatter(before, after, verdict):
    """Steps are called slower only beyond the scatter of the steps, or with repeats of the runs."""
    sides = [[Performance("w", 1, tuple(steps), 16, 0) for steps in side] for side in (before, after)]

    found = performance.compare(*sides)

    assert found.time == verdict
    assert found.repeats == min(len(before), len(after))


def test_one_outlier_makes_nothing_slower():
    """A step that took a hundred times as long changes neither the median nor the scatter."""
    steady = [0.1 + 0.001 * (number % 3) for number in range(20)]
    found = performance.compare(
        [Performance("w", 1, tuple(steady), None, 0)], [Performance("w", 1, (*steady, 10.0), None, 0)]
    )

    assert found.time == "alike"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [(0, 0, "alike"), (100, 101, "alike"), (100, 110, "more"), (110, 100, "less"), (0.1, 0.5, "alike")],
)
def test_memory(before, after, told):
    """Peak memory (here in MiB) hardly scatters: beyond 5 % and 1 MiB it is a difference; 0 is not known."""
    sides = [[Performance("w", 1, (0.1,), None, int(size * 2**20))] for size in (before, after)]

    assert performance.compare(*sides).memory == told


def test_the_sign_test():
    """The probability of so one-sided signs is that of tossing a coin."""
    assert performance.sign_test([]) == 1.0
    assert performance.sign_test([2.0, 0.5]) == 1.0
    assert performance.sign_test([1.1] * 10) == pytest.approx(2 / 2**10)
    assert performance.sign_test([1.1] * 9 + [0.9]) == pytest.approx(2 * 11 / 2**10)


def test_slower_steps_decide_only_with_repeats(tmp_path):
    """One run on each side cannot tell a slow release from a busy machine; two can."""
    one = [runs(tmp_path / f"one-{n}", ended(performance=[timed(s)]))[0] for n, s in enumerate((0.1, 0.2))]
    two = [runs(tmp_path / f"two-{n}", ended(performance=[timed(s)]))[0] for n, s in enumerate((0.101, 0.202))]

    single, repeated = compare(one[:1], one[1:]), compare([one[0], two[0]], [one[1], two[1]])

    assert [found.speeds[0].time for found in (single, repeated)] == ["slower", "slower"]
    assert [found.verdict for found in (single, repeated)] == ["NO REGRESSION", "REGRESSION"]
    assert any("one run on a side" in note for note in single.notes)
    assert not any("one run on a side" in note for note in repeated.notes)


def test_more_memory_is_a_regression(tmp_path):
    """Peak memory decides even with one run each."""
    before, after = (
        runs(tmp_path / str(size), ended(performance=[timed(0.1, size)])) for size in (10 * 2**20, 20 * 2**20)
    )

    assert compare(before, after).verdict == "REGRESSION"


@pytest.mark.parametrize(
    ("header", "chip", "told"),
    [
        ({"emulated": False}, "Ascend910B3", "BASE ran on emulated cards, NEW on real cards"),
        ({}, "Ascend910A", "BASE ran on Ascend910B3, NEW on Ascend910A"),
    ],
)
def test_what_cannot_be_compared(tmp_path, header, chip, told):
    """Emulated with real cards, and one chip with another, are not comparable; the reason is told."""
    after = runs(tmp_path / "b", ended(), header=header, stack={"chip": chip})

    found = compare(runs(tmp_path / "a", ended()), after)

    assert found.verdict == "NOT COMPARABLE"
    assert told in found.obstacles[0]


def test_a_killed_run_is_not_comparable(tmp_path):
    """What a killed run did not reach is not known, so nothing is concluded from it."""
    after = load(write(tmp_path / "b", records([ended(), ended("PASS", "demo/other")])[:-2]))

    found = compare(runs(tmp_path / "a", ended(), ended("PASS", "demo/other")), [after])

    assert "NEW: " in found.obstacles[0]
    assert "was killed" in found.obstacles[0]


def test_another_selection_is_not_comparable(tmp_path):
    """A new run that leaves out tests of the same suite is refused, unless it is meant."""
    before = runs(tmp_path / "a", ended(), ended("PASS", "demo/other"))
    after = runs(tmp_path / "b", ended())

    assert "NEW leaves out 1 of the 2 tests of BASE" in compare(before, after).obstacles[0]
    assert compare(before, after, subset=True).verdict == "NO REGRESSION"
    assert "no test is in both" in compare(before, runs(tmp_path / "c", ended("PASS", "x/y")), subset=True).obstacles[0]


def test_a_suite_that_lost_a_test(tmp_path):
    """With another revision of the suite a removed test is told, and does not prevent the comparison."""
    before = runs(tmp_path / "a", ended(), ended("PASS", "demo/other"), header={"revision": "a" * 40})
    found = compare(before, runs(tmp_path / "b", ended(), header={"revision": "b" * 40}))

    assert [change.kind for change in found.changes] == ["removed"]
    assert found.verdict == "NO REGRESSION"
    assert "revision aaaaaaaaaaaa, then bbbbbbbbbbbb" in found.notes[0]


def test_repeats_are_of_one_environment(tmp_path):
    """Runs of one side that were not made in one environment are no repeats."""
    mixed = [*runs(tmp_path / "a", ended()), *runs(tmp_path / "b", ended(), header={"driver": "25.5"})]

    assert "is no repeat of" in compare(mixed, mixed[:1]).obstacles[0]


def test_curves_of_both_are_laid_over_each_other(tmp_path):
    """The page has a plot with the curve of the CPU, of the base, and of the new run."""
    values = [{"loss": [1.0, 0.9, end], "loss (reference)": [1.0, 0.9, 0.8]} for end in (0.8, 0.7)]
    before, after = (runs(tmp_path / str(n), ended(values=value)) for n, value in enumerate(values))

    page = comparison_page.html(compare(before, after), before, after, ("a", "b")).decode()

    (plot,) = re.findall(r'<svg [^>]*class="plot".*?</svg>', page, re.DOTALL)
    for variable in ("--card", "--other", "--cpu"):
        assert f"var({variable})" in plot


def sides(tmp_path) -> list[str]:
    """A base and a new run with one regression."""
    made(tmp_path / "base", ended(), ended("PASS", "demo/other"))
    made(tmp_path / "new", ended("FAIL", reason=f"AssertionError: {HOSTILE}"), ended("PASS", "demo/other"))
    return [str(tmp_path / "base"), str(tmp_path / "new")]


def test_the_command(tmp_path, capsys):
    """The exit code is the verdict; Markdown goes to standard output or a file, JSON and a page to files."""
    base, new = sides(tmp_path)
    outputs = [tmp_path / name for name in ("page.html", "facts.json", "summary.md")]
    options = [
        part
        for name, file in zip(("html", "json", "markdown"), outputs, strict=True)
        for part in (f"--{name}", str(file))
    ]

    assert __main__.main(["compare", base, base]) == 0
    assert "# NO REGRESSION" in capsys.readouterr().out
    assert __main__.main(["compare", base, new, *options]) == 1
    assert capsys.readouterr().out == "REGRESSION\n"

    page, facts, summary = (file.read_text() for file in outputs)
    assert json.loads(facts)["changes"][0]["kind"] == "regression"
    assert json.loads(facts)["exit_code"] == 1
    assert "<script>alert" not in page
    assert "# REGRESSION" in summary
    assert "<script>" not in summary
    assert "\n# head" not in summary
    assert r"\[a\]\(javascript:b\)" in summary


def test_repeats_are_found_in_a_directory(tmp_path, capsys):
    """A side may be a directory of runs; a test that passes in one and fails in another of them is flaky."""
    for number, outcome in enumerate(("PASS", "PASS")):
        made(tmp_path / f"base/{number}", ended(outcome))
    for number, outcome in enumerate(("PASS", "FAIL", "PASS")):
        made(tmp_path / f"new/{number}", ended(outcome))

    assert __main__.main(["compare", str(tmp_path / "base"), str(tmp_path / "new")]) == 1
    out = capsys.readouterr().out
    assert "### became flaky: 1" in out
    assert "PASS 2/2 → PASS 2/3, FAIL 1/3" in out


def test_repetitions_within_a_run(tmp_path):
    """A test that a run repeated, and that did not always end alike, is flaky, not regressed."""
    content = records([ended("FAIL")])
    content[-1:-1] = [{"type": "repeat", "nodeid": ended()["nodeid"], "outcome": "PASS", "number": 1}]
    after = load(write(tmp_path / "b", content))

    (change,) = compare(runs(tmp_path / "a", ended()), [after]).changes

    assert (change.kind, change.after) == ("became flaky", (F, P))


def test_a_repetition_says_why(tmp_path):
    """Where a repetition alone failed, its reason is told."""
    content = records([ended()])
    content[-1:-1] = [
        {"type": "repeat", "nodeid": ended()["nodeid"], "outcome": "FAIL", "number": 2, "reason": "loss is nan"}
    ]
    after = load(write(tmp_path / "b", content))

    (change,) = compare(runs(tmp_path / "a", ended()), [after]).changes

    assert (change.kind, change.after, change.reason) == ("became flaky", (P, F), "loss is nan")


@pytest.mark.parametrize("content", [None, "", "not json\n", "\x00\x01", '{"type":"header","schema":99}\n'])
def test_bad_input(tmp_path, capsys, content):
    """A side without a usable journal is one message and exit code 2."""
    made(tmp_path / "good", ended())
    bad = tmp_path / "bad"
    bad.mkdir()
    if content is not None:
        (bad / "journal.jsonl").write_text(content)

    assert __main__.main(["compare", str(tmp_path / "good"), str(bad)]) == 2

    error = capsys.readouterr().err
    assert error.startswith("python -m reports compare: ")
    assert str(bad) in error
    assert "Traceback" not in error


def test_hostile_records(tmp_path):
    """Records with values of any kind are compared without an error."""
    odd = [None, 1, "x", [], {}, {"check": None, "headroom": "nan"}, {"headroom": "inf", "limit": "-inf"}]
    tests = [
        ended(
            "PASS",
            checks=odd,
            performance=[*odd, timed(0.1)],
            values={"loss": ["nan"] * 4, "loss (reference)": [1] * 4},
        ),
        ended("FAIL", "demo/b", reason=HOSTILE, sentence=HOSTILE),
    ]
    before = runs(tmp_path / "a", *tests, header={"driver": {"x": [HOSTILE]}})
    after = runs(tmp_path / "b", *[{**test, "outcome": "PASS"} for test in tests], header={"driver": HOSTILE})

    found = compare(before, after)

    page = comparison_page.html(found, before, after, (HOSTILE, HOSTILE)).decode()
    assert "<script>alert" not in page
    assert "<script>" not in comparison_page.markdown(found, (HOSTILE, HOSTILE))
    json.loads(comparison_page.as_json(found))


def test_the_card_is_part_of_the_environment(tmp_path):
    """What torch_npu said about the card is compared too."""
    after = runs(tmp_path / "b", ended(), stack={"overflow_mode": "saturation"})

    assert ("overflow_mode", None, "saturation") in compare(runs(tmp_path / "a", ended()), after).environment

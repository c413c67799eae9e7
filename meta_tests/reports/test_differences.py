"""What a comparison of two sets of runs says, word for word, in which order, and from which size on."""

import pytest
from made_runs import check, ended, made, planned, records, runs, timed, write

from reports.comparison import Change, compare
from reports.outcome import Outcome
from reports.run import load

P, F, X = Outcome.PASS, Outcome.FAIL, Outcome.XFAIL


def test_a_change_tells_of_its_test(tmp_path):
    """What it promises, how to see it again, how it ended on each side and why."""
    before = runs(tmp_path / "a", ended())
    after = runs(tmp_path / "b", ended("FAIL", sentence="A thing works well.", reason="five"))

    (change,) = compare(before, after).changes

    test = planned()
    assert change == Change(
        "regression", test["nodeid"], "demo/thing", "A thing works well.", test["reproduce"], (P,), (F,), "five"
    )


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ([("PASS", "")], [("FAIL", "first"), ("FAIL", "last")], "last"),
        ([("FAIL", "before")], [("FAIL", "first"), ("PASS", "")], "first"),
        ([("FAIL", "before"), ("FAIL", "again")], [("PASS", "")], "before"),
        ([], [("PASS", "")], ""),
        ([("FAIL", "before")], [], "before"),
    ],
)
def test_the_newest_reason_is_told(tmp_path, before, after, told):
    """That of the last new run that did not pass; where all passed, of the first old one that did not."""
    other = ended("PASS", "demo/other")
    old, new = (
        [
            runs(tmp_path / f"{name}{n}", *([ended(outcome, reason=why)]), other)[0]
            for n, (outcome, why) in enumerate(side)
        ]
        or runs(tmp_path / name, other)
        for name, side in (("a", before), ("b", after))
    )

    (change,) = compare(old, new).changes

    assert change.reason == told


def test_changes_are_in_order_of_what_matters(tmp_path):
    """Regressions first, then lost, flaky and exposed tests, what was mended last; within a kind by name."""
    ways = {
        "a-fixed": ("FAIL", "PASS"),
        "b-added": (None, "PASS"),
        "c-exposed": ("NOT_RUN", "FAIL"),
        "d-lost": ("PASS", "NOT_RUN"),
        "f-regression": ("PASS", "FAIL"),
        "e-regression": ("PASS", "CRASH"),
        "g-removed": ("PASS", None),
        "h-waived": ("PASS", "XFAIL"),
        "i-changed": ("FAIL", "CRASH"),
        "j-same": ("PASS", "PASS"),
    }
    before, after = (
        runs(tmp_path / str(n), *(ended(way[n], f"demo/{name}") for name, way in ways.items() if way[n]))
        for n in (0, 1)
    )

    found = compare(before, after, subset=True)

    assert [change.requirement for change in found.changes] == [
        f"demo/{name}"
        for name in (
            *("e-regression", "f-regression", "d-lost", "c-exposed", "i-changed"),
            *("h-waived", "a-fixed", "g-removed", "b-added"),
        )
    ]
    assert found.stayed == 1
    assert [change.requirement[5:] for change in found.regressions] == ["e-regression", "f-regression", "d-lost"]


@pytest.mark.parametrize(
    ("before", "after", "drifts", "gains"),
    [
        (0.05, 0.1, 1, 0),  # just the smallest step
        (0.05, 0.099, 0, 0),
        (0.5, 0.75, 1, 0),  # just the smallest ratio
        (0.5, 0.749, 0, 0),
        (0.1, 0.05, 0, 1),
        (0.75, 0.5, 0, 1),
        (0.749, 0.5, 0, 0),
    ],
)
def test_what_is_a_drift(tmp_path, before, after, drifts, gains):
    """A twentieth of the limit more, and half as much again as before; both together, in either direction."""
    old, new = (runs(tmp_path / str(n), ended(checks=[check(used)])) for n, used in enumerate((before, after)))

    found = compare(old, new)

    assert (len(found.drifts), len(found.gains)) == (drifts, gains)


def test_the_largest_drifts_come_first(tmp_path):
    """Drifts and gains are those of checks with one name and place, the largest first, each with its test."""
    before = [*[check(0.1, "a")] * 3, check(0.1, "b"), check(0.3, "c"), check(0.8, "d"), check(0.1, "gone")]
    after = [
        check(0.1, "a"),
        check(0.3, "a"),
        check(0.2, "a"),
        check(0.5, "b"),
        check(0.1, "c"),
        check(0.1, "d"),
        check(0.9, "come"),
    ]
    unlimited = check(0.1, "e", limit=None), check(0.9, "e", limit=None)

    found = compare(
        runs(tmp_path / "a", ended(checks=[unlimited[0], *before])),
        runs(tmp_path / "b", ended(checks=[unlimited[1], *after])),
    )

    assert [(drift.check, drift.after) for drift in found.drifts] == [("b", 0.5), ("a", 0.3), ("a", 0.2)]
    assert [(drift.check, drift.before, drift.after) for drift in found.gains] == [("d", 0.8, 0.1), ("c", 0.3, 0.1)]
    assert {(drift.nodeid, drift.requirement) for drift in (*found.drifts, *found.gains)} == {
        (planned()["nodeid"], "demo/thing")
    }
    assert found.checks == 6


def test_drift_is_that_of_the_median_run(tmp_path):
    """One odd run among repeats is no drift; a test that failed in one of them has none."""
    before, after, failed = (
        [runs(tmp_path / f"{name}{n}", ended(outcome, checks=[check(used)]))[0] for n, used in enumerate(side)]
        for name, outcome, side in (
            ("a", "PASS", (0.1, 0.1, 0.9)),
            ("b", "PASS", (0.9, 0.1, 0.12)),
            ("c", "FAIL", (0.9,)),
        )
    )

    assert [compare(before, side).checks for side in (after, [*after, *failed], failed)] == [1, 0, 0]
    assert compare([*before, *failed], after).checks == 0
    assert compare(before, after).drifts == ()


def test_workloads_are_compared_by_name_slowest_first(tmp_path):
    """Those that both sides timed; over all of them the median ratio, and how probable it is by chance."""
    before = [timed(0.1, workload=name) for name in ("a", "b", "c", "gone")]
    after = [timed(0.1 * factor, workload=name) for name, factor in (("a", 2), ("b", 4), ("c", 3), ("come", 1))]

    found = compare(runs(tmp_path / "a", ended(performance=before)), runs(tmp_path / "b", ended(performance=after)))

    assert [speed.workload for speed in found.speeds] == ["b", "c", "a"]
    assert found.time_ratio == pytest.approx(3)
    assert found.chance == pytest.approx(2 / 2**3)


def test_nothing_was_timed(tmp_path):
    """Without workloads there is no ratio, and nothing that chance would have to explain."""
    found = compare(*(runs(tmp_path / name, ended()) for name in "ab"))

    assert (found.speeds, found.slower, found.time_ratio, found.chance) == ((), [], None, 1.0)


def test_repeats_of_workloads_are_gathered(tmp_path):
    """Each run of a side counts: a workload is as slow as the median of the runs, and they are its repeats."""
    before, after = (
        [
            runs(tmp_path / f"{name}{n}", ended(performance=[timed(seconds, scatter=0)]))[0]
            for n, seconds in enumerate(side)
        ]
        for name, side in (("a", (0.1, 0.1, 0.1)), ("b", (0.1, 0.2, 0.2)))
    )

    (speed,) = compare(before, after).speeds

    assert (speed.before, speed.after, speed.repeats) == pytest.approx((0.1, 0.2, 3))


def test_curves_of_one_side_have_no_pair(tmp_path):
    """A pair is a curve of one name that the first run of either side has, with its test."""

    def values(end: float, *names: str) -> dict:
        return {name: [1.0, 0.9, end] for one in names for name in (one, f"{one} (reference)")}

    before = runs(tmp_path / "a", ended(values=values(0.8, "loss", "gone")))
    after = runs(tmp_path / "b", ended(values=values(0.7, "come", "loss")))

    (pair,) = compare([*before, *after], [*after, *before]).pairs

    assert (pair.nodeid, pair.requirement) == (planned()["nodeid"], "demo/thing")
    assert [(curve.name, curve.measured[-1]) for curve in (pair.before, pair.after)] == [("loss", 0.8), ("loss", 0.7)]


def test_the_order_of_the_environment(tmp_path):
    """CANN, driver, firmware, torch_npu, torch and the chip first, other facts by name, variables last; what is no
    part of the stack is left out.
    """
    header = {
        "cann": {"version": "9.1.0"},
        "driver": "25.5",
        "firmware": "7.8",
        "versions": {"torch": "2.14.0", "torch_npu": "2.14.0", "accelerate": "1.9"},
        "builds": {"torch_npu": "abc"},
        "python": "3.12",
        "architecture": "aarch64",
        "kernel": "6.6",
        "revision": "b" * 40,
        "modified": True,
        "environment": {"ASCEND_LAUNCH_BLOCKING": "1", "NPU_EMULATOR_THREADS": "2"},
    }
    stack = {"chip": None, "torch_npu": "2.14.0", "hf32": True, "bf16": False, "cann": "9.1.0"}

    found = compare(runs(tmp_path / "a", ended()), runs(tmp_path / "b", ended(), header=header, stack=stack))

    assert [name for name, *_ in found.environment] == [
        *("cann version", "driver", "firmware", "versions torch_npu", "builds torch_npu", "versions torch", "chip"),
        *("architecture", "bf16", "hf32", "python", "torch_npu", "versions accelerate"),
        "versions transformers",
        *("variable ASCEND_LAUNCH_BLOCKING", "variable INF_NAN_MODE_ENABLE"),
    ]
    assert found.obstacles == ()  # a chip that is not known is no other chip


def test_runs_without_a_card_are_compared(tmp_path):
    """A run in which no worker reached a card differs in what the card would have said."""
    content = [record for record in records([ended()]) if record["type"] != "stack"]
    without = load(write(tmp_path / "b", content))

    found = compare(runs(tmp_path / "a", ended()), [without])

    assert found.environment == (("chip", "Ascend910B3", None), ("torch_npu", "2.13.0", None))
    assert compare([without], [without]).environment == ()


def test_what_stands_in_the_way_in_words(tmp_path):
    """Every obstacle is named with its side, its file and what to do."""
    good, lost = ended(), ended("PASS", "demo/other")
    before = runs(tmp_path / "a", good, lost, header={"revision": "a" * 40})
    killed = load(write(tmp_path / "b", records([good, lost], {"revision": "a" * 40})[:-1]))
    repeat = runs(tmp_path / "c", good, lost, header={"driver": "25.5", "revision": "a" * 40})
    real = runs(tmp_path / "d", good, header={"emulated": False, "revision": "a" * 40}, stack={"chip": "Ascend910A"})
    file = {name: tmp_path / name / "journal.jsonl" for name in "abcd"}

    assert compare(before, before).obstacles == ()
    assert compare([killed], [*before, *repeat]).obstacles == (
        f"BASE: {file['b']}: the run was killed before it ended; what it did not reach is not known. Finish it with "
        "pytest --resume, or run it again",
        f"NEW: {file['c']} is no repeat of {file['a']}: driver is 25.5, not None. Give runs of one environment",
    )
    assert compare(before, real).obstacles == (
        "BASE ran on emulated cards, NEW on real cards; neither says anything about the other",
        "BASE ran on Ascend910B3, NEW on Ascend910A: limits and features differ between chips",
        "NEW leaves out 1 of the 2 tests of BASE though both are of one revision of the suite: "
        f"{lost['nodeid']}, for one; run the same selection, or say --subset if that is meant",
    )
    assert compare(real, before).obstacles[0] == (
        "BASE ran on real cards, NEW on emulated cards; neither says anything about the other"
    )
    assert compare(before, runs(tmp_path / "e", ended("PASS", "x/y"))).obstacles == (
        "no test is in both BASE and NEW; run the same selection of the suite on both",
    )


def test_an_obstacle_comes_before_a_regression(tmp_path):
    """Where two runs cannot be compared, a failure of the new one is no regression."""
    after = load(write(tmp_path / "b", records([ended("FAIL")])[:-1]))

    found = compare(runs(tmp_path / "a", ended()), [after])

    assert ([change.kind for change in found.changes], found.verdict) == (["regression"], "NOT COMPARABLE")


def test_what_a_reader_should_know(tmp_path):
    """Another revision, changes that are not committed and single runs are noted, each in a sentence."""
    single = (
        "one run on a side: a flaky test cannot be told from a regression, nor slower steps from a busy machine; "
        "give directories with several runs each to decide"
    )
    headers = ({"revision": "0123456789abcdef"}, {"revision": "fedcba9876543210", "modified": True})
    before, after = (runs(tmp_path / name, ended(), header=header) for name, header in zip("ab", headers, strict=True))

    assert compare(before, before).notes == (single,)
    assert compare(before * 2, before).notes == compare(before, before * 2).notes == (single,)
    assert compare(before * 2, before * 2).notes == ()
    assert compare(before, after).notes == (
        "the suite itself is another: revision 0123456789ab, then fedcba987654; tests and limits may differ",
        "NEW ran a suite with changes that are not committed",
        single,
    )
    assert compare(after * 2, after * 2).notes == tuple(
        f"{side} ran a suite with changes that are not committed" for side in ("BASE", "NEW")
    )


def test_repetitions_count_where_the_test_is(tmp_path):
    """How a run's repetitions ended counts for either side; an outcome that there is not is no outcome."""
    other = ended("PASS", "demo/other")
    repeats = [
        {"type": "repeat", "nodeid": one["nodeid"], "outcome": outcome, "number": number}
        for number, (one, outcome) in enumerate([(ended(), "ODD"), (ended(), "FAIL"), (ended(), "PASS")], 1)
    ]
    content = records([ended(), other])
    repeated = load(write(tmp_path / "a", [*content[:-1], *repeats, content[-1]]))

    (change,) = compare([repeated], runs(tmp_path / "b", ended(), other)).changes

    assert (change.kind, change.before, change.after) == ("flaky", (P, F, P), (P,))
    (change,) = compare(runs(tmp_path / "c", other), [repeated]).changes
    assert (change.kind, change.before, change.after) == ("added", (), (P, F, P))


def test_all_runs_of_a_side_count(tmp_path):
    """A test is looked at in every run of a side; one that a later run alone has is not left out."""
    before = [load(made(tmp_path / f"a{n}", ended(outcome))) for n, outcome in enumerate(("XFAIL", "XFAIL"))]
    after = [
        *runs(tmp_path / "b0", ended("FAIL")),
        *runs(tmp_path / "b1", ended("FAIL"), ended("PASS", "demo/other")),
    ]

    changes = compare(before, after).changes

    assert [(change.kind, change.before, change.after) for change in changes] == [
        ("regression", (X, X), (F, F)),
        ("added", (), (P,)),
    ]

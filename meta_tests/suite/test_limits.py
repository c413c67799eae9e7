"""Detection limits: where bisection begins, and where it ends."""

import pytest

from meta_tests.trial import forks, limits, targeted
from meta_tests.trial.forks import Ran, TestResult

FAMILY = limits.Family("sums", ("aclnnA",), ("demo/sum",))
TEST = {"requirement": "demo/sum", "multi": False, "model": False, "nodeid": "t.py::test_sum", "level": "core"}
PLAN = targeted.Plan([TEST], {}, full=False)


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """Bisects for a suite that catches what is larger than a limit. Returns what was found, and the sizes asked."""

    def asked(limit, known=None):
        sizes = []

        def execute(runs, directory, references, jobs):
            for run in runs:
                sizes.append(float(run.environment["NPU_EMULATOR_FAULTS"].partition("scale=")[2]) - 1)
                outcome = "FAIL" if sizes[-1] > limit else "PASS"
                yield Ran(run, (TestResult(run.tests[0], outcome, "", 1.0, 1.0, True),), 3, 1.0, 1.0)

        monkeypatch.setattr(forks, "execute", execute)
        store = targeted.Store(tmp_path / f"{limit:g}", resume=False)
        (found,) = limits.bisect(store, PLAN, [FAMILY], 1, lambda line: None, known)
        return found, sizes

    return asked


def test_bisection_finds_the_limit(ask):
    """The largest that passes and the smallest that is caught lie on both sides of the limit, within the ratio."""
    found, sizes = ask(1e-4)
    ((passed, caught),) = limits.bounds([found]).values()

    assert passed <= 1e-4 < caught < 1.5 * passed
    assert found["by"] == ["demo/sum"]
    assert len(sizes) == 6


def test_what_an_earlier_trial_found_is_asked_first(ask):
    """A limit that still holds is confirmed by two runs."""
    found, _ = ask(1e-4)
    again, sizes = ask(1e-4, limits.bounds([found]))

    assert again == found
    assert len(sizes) == 2


@pytest.mark.parametrize("limit", [1e-6, 1e-2])
def test_a_limit_that_has_moved_is_found(ask, limit):
    """A limit that is smaller or larger than an earlier trial's is found from there."""
    ((passed, caught),) = limits.bounds([ask(limit, {"sums": (8e-5, 1.1e-4)})[0]]).values()

    assert passed <= limit < caught < 1.5 * passed


@pytest.mark.parametrize(("limit", "end"), [(1e-9, "passed"), (0.9, "caught")])
def test_an_end_that_is_never_found(ask, limit, end):
    """Where everything is caught nothing has passed, and the other way round."""
    found, _ = ask(limit)

    assert found[end] == "none"
    assert ask(limit, limits.bounds([found]))[0][end] == "none"

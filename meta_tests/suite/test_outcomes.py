"""Each way in which a test can end becomes its outcome in the journal, the summary and the verdict."""

import pytest

from reports.outcome import Outcome, Phase, classify

PASSING = """
@pytest.mark.host
@requirement("demo/passes")
def test_passes(evidence):
    '''Two and two are four.'''
    evidence.check_equal("sum", 2 + 2, 4)
"""


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_passing_run_is_conformant(suite, workers):
    """A run whose requirements pass ends with exit code 0, a complete journal and the verdict as its last line."""
    ran = suite(PASSING, "-n", workers)

    assert ran.returncode == 0
    assert [record["type"] for record in ran.records] == ["header", "selection", "test", "footer"]
    assert ran.outcomes == {"test_passes": "PASS"}
    assert ran.tests["test_passes"]["checks"][0]["headroom"] == 0
    assert ran.verdict == "verdict: CONFORMANT on no card: 1 passed"


def test_a_failed_check_says_what_to_do(suite):
    """A failed check names requirement, expectation, measurement and one command that reproduces it."""
    ran = suite(PASSING.replace("2 + 2", "5"), "-n", "0")

    assert ran.returncode == 1
    assert ran.outcomes == {"test_passes": "FAIL"}
    for line in (
        "FAIL demo/passes: Two and two are four.",
        "expected:    sum equal to 4",
        "measured:    5",
        'reproduce: python -m pytest -n 0 "tests/test_written.py::test_passes"',
    ):
        assert line in ran.stdout
    assert ran.verdict == "verdict: NOT CONFORMANT on no card: 1 FAIL"


def test_skips_are_not_passes(suite):
    """A skipped test is NOT_RUN with its reason, an unsupported feature UNSUPPORTED, and neither makes a run
    conformant.
    """
    ran = suite(
        """
        @requirement("demo/skipped")
        def test_skipped():
            '''A thing works.'''
            pytest.skip("no time")

        @pytest.mark.skip(reason="no nerve")
        @requirement("demo/marked")
        def test_marked():
            '''A third thing works.'''

        @requirement("demo/unsupported")
        def test_unsupported():
            '''Another thing works.'''
            unsupported("this chip has no bf16")
        """,
        *("-n", "0"),
    )

    assert ran.outcomes == {"test_skipped": "NOT_RUN", "test_marked": "NOT_RUN", "test_unsupported": "UNSUPPORTED"}
    assert ran.tests["test_marked"]["reason"] == "no nerve"
    assert ran.tests["test_skipped"]["reason"] == "no time"
    assert ran.tests["test_unsupported"]["reason"] == "this chip has no bf16"
    assert ran.verdict.startswith("verdict: INCOMPLETE")


def test_failed_machinery_is_not_a_failure_of_the_stack(suite):
    """An error of the suite's own machinery is INFRA, and the run INCOMPLETE rather than NOT CONFORMANT."""
    ran = suite(
        """
        from fixtures.errors import InfrastructureError

        @pytest.mark.host
        @requirement("demo/infra")
        def test_infra():
            '''A thing works.'''
            raise InfrastructureError("the reference process died")
        """,
        *("-n", "0"),
    )

    assert ran.outcomes == {"test_infra": "INFRA"}
    assert ran.returncode == 1
    assert ran.verdict.startswith("verdict: INCOMPLETE")


def test_a_failed_fixture_is_a_failure(suite):
    """An error in setup or teardown fails the test, even if the call passed."""
    ran = suite(
        """
        @pytest.fixture
        def broken_before():
            raise OSError("no such thing")

        @pytest.fixture
        def broken_after():
            yield
            raise OSError("left behind")

        @pytest.mark.host
        @requirement("demo/before")
        def test_before(broken_before):
            '''A thing works.'''

        @pytest.mark.host
        @requirement("demo/after")
        def test_after(broken_after):
            '''Another thing works.'''
            assert True is not None
        """,
        *("-n", "0"),
    )

    assert ran.outcomes == {"test_before": "FAIL", "test_after": "FAIL"}
    assert "left behind" in ran.tests["test_after"]["reason"]


def test_what_was_not_reached_is_not_run(suite):
    """A run that stops early accounts for every test that it selected."""
    ran = suite(
        PASSING.replace("2 + 2", "5")
        + PASSING.replace("test_passes", "test_later").replace("demo/passes", "demo/later"),
        *("-n", "0", "-x"),
    )

    assert ran.outcomes == {"test_passes": "FAIL", "test_later": "NOT_RUN"}
    assert "stopping after 1 failures" in ran.tests["test_later"]["reason"]


def test_the_first_failed_phase_decides():
    """classify looks at failed phases first, then at skipped ones, and demands a call for a PASS."""
    passed, called = Phase("setup", "passed"), Phase("call", "passed")

    assert classify([passed, called, Phase("teardown", "passed")]) == (Outcome.PASS, "")
    assert classify([passed, Phase("teardown", "passed")]) == (Outcome.NOT_RUN, "the test was not called")
    assert classify([passed, Phase("call", "skipped", "x"), Phase("teardown", "failed", "y")]) == (Outcome.FAIL, "y")
    assert classify([passed, Phase("call", "failed", "late", claims="TIMEOUT")]) == (Outcome.TIMEOUT, "late")
    assert classify([passed, Phase("call", "failed", "wrong")]) == (Outcome.FAIL, "wrong")
    unexpected = Phase("call", "failed", "[XPASS(strict)] it works")
    assert classify([passed, unexpected]) == (Outcome.XPASS, "[XPASS(strict)] it works")
    waived = Phase("call", "skipped", "UNSUPPORTED: x", expected_failure=True)
    assert classify([passed, waived]) == (Outcome.XFAIL, "UNSUPPORTED: x")
    assert classify([Phase("setup", "skipped", "UNSUPPORTED: no bf16")]) == (Outcome.UNSUPPORTED, "no bf16")
    assert classify([passed, Phase("call", "skipped", "no card")]) == (Outcome.NOT_RUN, "no card")

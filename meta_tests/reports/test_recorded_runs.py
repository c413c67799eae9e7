"""Comparisons of journals that the suite wrote on emulated cards: a clean card, and cards with one fault each.

recorded/ has them: three requirements of the Trainer, run with ``NPU_EMULATOR_FAULTS`` aclnnMm:scale=1.000001 (drifted)
and aclnnMm:scale=1.001 (wrong), and with ``NPU_EMULATOR_LATENCY=200us`` (slow). Logs, paths and what names the machine
were taken out, and the lines chained again.
"""

from pathlib import Path

import pytest

from reports import __main__, comparison_page
from reports.comparison import compare
from reports.run import load

RECORDED = Path(__file__).parent / "recorded"


def side(name: str) -> list:
    """One recorded run."""
    return [load(RECORDED / f"{name}.jsonl")]


def compared(name: str):
    """A recorded run against the clean one."""
    return compare(side("clean"), side(name))


def test_a_card_against_itself():
    """A run compared with itself has nothing to tell."""
    found = compared("clean")

    assert (found.verdict, found.environment, found.changes, found.drifts) == ("NO REGRESSION", (), (), ())
    assert {one.time for one in found.speeds} <= {"alike", "unclear"}


def test_a_fault_within_tolerance_drifts():
    """Matrix products that are a millionth too large pass every check, and the comparison shows the lost headroom."""
    found = compared("drifted")

    assert (found.verdict, found.changes) == ("NO REGRESSION", ())
    assert found.environment == (("emulator NPU_EMULATOR_FAULTS", None, "aclnnMm:scale=1.000001"),)
    assert len(found.drifts) >= 10
    assert {drift.requirement for drift in found.drifts} >= {"transformers/trainer-weights"}
    assert all(drift.before < drift.after <= 1 for drift in found.drifts)


def test_a_fault_beyond_tolerance_is_a_regression():
    """Matrix products that are a thousandth too large fail requirements that passed."""
    found = compared("wrong")

    assert found.verdict == "REGRESSION"
    assert {change.requirement for change in found.regressions} == {
        "transformers/trainer-loss-curve",
        "transformers/trainer-weights",
    }


def test_latency_is_slower():
    """A card whose operators take 200 microseconds longer passes, and is told to be slower."""
    found = compared("slow")

    assert (found.changes, found.drifts) == ((), ())
    assert found.time_ratio > 1.5
    assert "slower" in {one.time for one in found.speeds}


@pytest.mark.parametrize("name", ["drifted", "wrong", "slow"])
def test_the_pages_of_recorded_runs(name, tmp_path):
    """Each comparison makes a page with the curves of both runs, and Markdown, by the command."""
    code = __main__.main(
        [
            "compare",
            str(RECORDED / "clean.jsonl"),
            str(RECORDED / f"{name}.jsonl"),
            "--html",
            str(tmp_path / "page.html"),
        ]
    )

    assert code == int(name == "wrong")
    assert (tmp_path / "page.html").read_text().count("<svg ") == len(compared(name).pairs) == 3
    assert compared(name).verdict in comparison_page.markdown(compared(name), ("clean", name))

"""The closed set of outcomes, and how a test's phases become one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

UNSUPPORTED_PREFIX = "UNSUPPORTED: "
XPASS_PREFIX = "[XPASS(strict)]"


class Outcome(str, Enum):
    """How a test ended. Only PASS is a pass.

    PASS: it did work on the NPU, checked something, and all checks held.
    FAIL: a check did not hold, or an error was raised.
    XFAIL: waived: it failed exactly as a waiver says that this stack fails (reports/waivers.py).
    XPASS: it passed although a waiver says that this stack fails; the waiver is out of date, which is a failure.
    UNSUPPORTED: this chip or this version does not have the feature.
    NOT_RUN: skipped, or never reached.
    VACUOUS: it ran no operator on the NPU, or checked nothing; a failure.
    CRASH: the process that ran it died.
    TIMEOUT: it did not end in time and was killed.
    DEVICE_LOST: the card did not give a known answer before the test began.
    INFRA: the suite's own machinery failed; says nothing about the stack.
    """

    PASS = "PASS"
    FAIL = "FAIL"
    XFAIL = "XFAIL"
    XPASS = "XPASS"
    UNSUPPORTED = "UNSUPPORTED"
    NOT_RUN = "NOT_RUN"
    VACUOUS = "VACUOUS"
    CRASH = "CRASH"
    TIMEOUT = "TIMEOUT"
    DEVICE_LOST = "DEVICE_LOST"
    INFRA = "INFRA"

    def __str__(self) -> str:
        return self.value


FAILURES = frozenset(
    {Outcome.FAIL, Outcome.XPASS, Outcome.VACUOUS, Outcome.CRASH, Outcome.TIMEOUT, Outcome.DEVICE_LOST}
)
# Neither for nor against the stack: what they should have shown is unknown.
UNDECIDED = frozenset({Outcome.NOT_RUN, Outcome.INFRA})


@dataclass(frozen=True)
class Phase:
    """One phase of a test as pytest reports it.

    Attributes:
        when: "setup", "call" or "teardown".
        outcome: "passed", "failed" or "skipped".
        reason: why it was skipped or failed, as text; "" if it passed.
        expected_failure: pytest applied a strict expected failure.
        claims: the outcome that the raised exception claims (its attribute ``outcome``), or None.
    """

    when: str
    outcome: str
    reason: str = ""
    expected_failure: bool = False
    claims: str | None = None


def classify(phases: Sequence[Phase]) -> tuple[Outcome, str]:
    """The outcome of a test and the reason for it ("" for PASS), from its phases in order.

    The first failed phase decides; without one the first skipped phase; without one it is a PASS, if the test was
    called.
    """
    for phase in phases:
        if phase.outcome == "failed":
            if phase.reason.startswith(XPASS_PREFIX):
                return Outcome.XPASS, phase.reason
            return Outcome(phase.claims or Outcome.FAIL), phase.reason
    for phase in phases:
        if phase.outcome == "skipped":
            if phase.expected_failure:
                return Outcome.XFAIL, phase.reason
            if phase.reason.startswith(UNSUPPORTED_PREFIX):
                return Outcome.UNSUPPORTED, phase.reason.removeprefix(UNSUPPORTED_PREFIX)
            return Outcome.NOT_RUN, phase.reason
    if not any(phase.when == "call" for phase in phases):
        return Outcome.NOT_RUN, "the test was not called"
    return Outcome.PASS, ""

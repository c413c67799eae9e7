"""The support matrix, library by feature, as a value: a pure function of test records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.outcome import FAILURES, UNDECIDED, Outcome
from reports.verdict import aggregate


@dataclass(frozen=True)
class Cell:
    """Requirements of one library with one feature, by what became of them (the outcome of their worst test).

    Attributes:
        passed: PASS.
        ran: all but UNSUPPORTED ones.
        failed: a failure of any kind.
        waived: XFAIL.
        open: neither for nor against the stack.
    """

    passed: int
    ran: int
    failed: int
    waived: int
    open: int


@dataclass(frozen=True)
class Matrix:
    """Attributes:
    features: the columns, sorted.
    rows: by library, sorted: by feature, and under None over all of them. A combination without tests is not there.
    """

    features: tuple[str, ...]
    rows: Mapping[str, Mapping[str | None, Cell]]


def support(records: Sequence[Mapping]) -> Matrix:
    """The matrix of the tests of a run (journal.py says what a record has)."""
    found: dict[str, dict[str | None, dict[str, list[Outcome]]]] = {}
    for record in records:
        row = found.setdefault(record["library"], {})
        outcome = Outcome(record["outcome"])
        for feature in (*dict.fromkeys(record["features"]), None):
            row.setdefault(feature, {}).setdefault(record["requirement"], []).append(outcome)
    features = sorted({feature for row in found.values() for feature in row if feature is not None})
    rows = {
        library: {feature: _cell(requirements) for feature, requirements in row.items()}
        for library, row in sorted(found.items())
    }
    return Matrix(tuple(features), rows)


def _cell(requirements: Mapping[str, Sequence[Outcome]]) -> Cell:
    counts = Counter(aggregate(outcomes) for outcomes in requirements.values())
    return Cell(
        passed=counts[Outcome.PASS],
        ran=sum(counts.values()) - counts[Outcome.UNSUPPORTED],
        failed=sum(counts[outcome] for outcome in FAILURES),
        waived=counts[Outcome.XFAIL],
        open=sum(counts[outcome] for outcome in UNDECIDED),
    )

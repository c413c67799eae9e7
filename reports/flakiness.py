"""Which tests always end alike and which do not, from repetitions (``pytest --repeat N``), which are never judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Label:
    """How one test ended each time.

    Attributes:
        nodeid, requirement: of the test.
        counts: outcome -> how often, the first time, which alone counts for the verdict, included.
    """

    nodeid: str
    requirement: str
    counts: Mapping[str, int]

    @property
    def stable(self) -> bool:
        """Whether it ended alike each time."""
        return len(self.counts) == 1

    def __str__(self) -> str:
        """For people: "flaky (3 PASS, 2 FAIL)"."""
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.counts.items(), key=lambda c: -c[1]))
        return f"{'stable' if self.stable else 'flaky'} ({told})"


def labels(tests: Iterable[Mapping[str, Any]], repeats: Iterable[Mapping[str, Any]]) -> list[Label]:
    """The labels of all tests that were repeated, in the order of their records (types "test" and "repeat")."""
    again: dict[str, list[str]] = {}
    for repeat in repeats:
        again.setdefault(repeat["nodeid"], []).append(repeat["outcome"])
    return [
        Label(test["nodeid"], test["requirement"], Counter([test["outcome"], *again[test["nodeid"]]]))
        for test in tests
        if test["nodeid"] in again
    ]


def lines(found: Sequence[Label]) -> list[str]:
    """A summary for a terminal: how many are stable, and each flaky one."""
    if not found:
        return []
    flaky = [label for label in found if not label.stable]
    end = f"{len(found) - len(flaky)} stable, {len(flaky)} flaky (repetitions do not enter the verdict)"
    return ["", f"repeated: {end}", *(f"  {label.requirement}: {label}  [{label.nodeid}]" for label in flaky)]

"""What an operator sweep found, and the list of what it may find (operator_differences.toml). Needs no torch."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIST = Path(__file__).with_name("operator_differences.toml")

CHECKS = ("forward", "backward", "in-place", "out", "inputs", "random", "process")
CAUSES = ("torch_npu", "PyTorch", "artefact")


@dataclass(frozen=True)
class Finding:
    """What differs between the card and the CPU for one sample of an operator."""

    operator: str
    dtype: str
    check: str
    """forward, backward, in-place, out, inputs (changed though they must not), random, process (crash, hang)."""
    message: str
    sample: int = -1
    layout: str = ""
    error: float | None = None
    """The largest absolute error over the largest finite element of the expected result, where values differ."""
    summary: str = ""
    """The sample's shapes and arguments."""

    def __str__(self) -> str:
        sample = f" sample {self.sample} ({self.layout})" if self.sample >= 0 else ""
        return f"{self.operator} {self.dtype} {self.check}{sample}: {self.message} {self.summary}".rstrip()


@dataclass(frozen=True)
class Difference:
    """An entry of the list: a difference that is not the emulator's, with its reason."""

    operators: tuple[str, ...]
    cause: str
    """torch_npu, PyTorch (its CPU kernel or its samples), or artefact (of comparing two correct computations)."""
    reason: str
    checks: tuple[str, ...]
    message: re.Pattern
    """Found in the finding's message."""
    dtypes: tuple[str, ...] = ()
    """Empty for any."""
    layouts: tuple[str, ...] = ()
    """Empty for any."""
    at_most: float | None = None
    """The largest relative error (`Finding.error`) that the reason explains."""
    machine_dependent: bool = False
    """Whether it depends on the CPU's vector instructions; then it need not be found."""

    def explains(self, finding: Finding) -> bool:
        """Whether the finding is this difference."""
        return (
            finding.operator in self.operators
            and finding.check in self.checks
            and (not self.dtypes or finding.dtype in self.dtypes)
            and (not self.layouts or finding.layout in self.layouts)
            and (self.at_most is None or (finding.error is not None and finding.error <= self.at_most))
            and self.message.search(finding.message) is not None
        )

    def expects(self) -> list[tuple[str, str, str]]:
        """What must be found, else the entry is stale: (operator, dtype or "", check or "")."""
        if self.machine_dependent:
            return []
        checks = [(operator, "", check) for operator in self.operators for check in self.checks]
        return checks + [(operator, dtype, "") for operator in self.operators for dtype in self.dtypes]


class InvalidList(Exception):
    """The list of differences has an entry that cannot be meant."""


def allowed_differences(file: Path = LIST) -> list[Difference]:
    """The list's entries.

    Raises:
        InvalidList: An entry lacks a field, has an unknown one, or a value that nothing can match.
    """
    entries = []
    for number, entry in enumerate(tomllib.loads(file.read_text(encoding="utf-8"))["difference"], start=1):
        where = f"{file.name}, entry {number} ({', '.join(entry.get('operators', ['?']))})"
        try:
            difference = Difference(
                **{name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
                | {"message": re.compile(entry["message"])}
            )
        except (KeyError, TypeError, re.error) as error:
            raise InvalidList(f"{where}: {error}; fields are {', '.join(Difference.__dataclass_fields__)}") from error
        unknown = set(difference.checks) - set(CHECKS)
        if unknown or difference.cause not in CAUSES or not difference.reason.strip():
            raise InvalidList(
                f"{where}: checks are {', '.join(CHECKS)}; cause is one of {', '.join(CAUSES)}; reason is a sentence"
            )
        entries.append(difference)
    return entries


def unexplained(findings: Iterable[Finding], allowed: Sequence[Difference]) -> list[Finding]:
    """The findings that no entry explains."""
    return [finding for finding in findings if not any(entry.explains(finding) for entry in allowed)]


def stale(
    findings: Sequence[Finding], allowed: Sequence[Difference], swept: set[tuple[str, str]], known: set[str]
) -> list[str]:
    """What the list says and the sweep did not find.

    Args:
        findings: all findings.
        allowed: the list.
        swept: the (operator, dtype) pairs that were compared to their end; entries of others are not judged.
        known: the names of all operators there are.
    """
    problems = []
    for entry in allowed:
        explained = [finding for finding in findings if entry.explains(finding)]
        for operator in set(entry.operators) - known:
            problems.append(f"{operator}: PyTorch has no samples for an operator of this name")
        for operator, dtype, check in entry.expects():
            pairs = {pair for pair in swept if pair[0] == operator and dtype in ("", pair[1])}
            met = any(
                finding.operator == operator and dtype in ("", finding.dtype) and check in ("", finding.check)
                for finding in explained
            )
            if pairs and not met:
                problems.append(
                    f"{' '.join(filter(None, (operator, dtype, check)))}: no longer differs ({entry.reason})"
                )
    return problems

"""waivers.toml: failures that are known, each with reason, link, owner, conditions, expected error and expiry date.

A waived failure is XFAIL: shown beside what passed, never hidden. A waiver is held to its word: where its conditions
hold and the test passes, or fails with another outcome or error than stated, the test has failed; after its expiry date
it waives nothing; and one that is about no test of the suite is out of order. A waiver:

    [[waiver]]
    id = "runtime/scaler-*"           # glob over requirement ids, or a list; "...[fp16-*]" for test cases among them
    defect = "D2"                     # short name; pages in docs/defects/ have it
    kind = "torch_npu"                # which layer is wrong: one of KINDS
    reason = "what is wrong and where"
    link = "https://..."              # issue, pull request or line of source
    owner = "Ascend/op-plugin"        # the project or the people who are to mend it
    when = { torch_npu = "<=2.13.0" } # reports/conditions.py: soc, cann, any distribution
    outcome = "FAIL"                  # one of EXPECTED; FAIL if left out
    error = "AssertionError: .*"      # regular expression, searched in "<class of the error>: <its text>"
    expires = 2027-05-25              # a date; the waiver holds up to and including this day
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from reports import conditions, toml
from reports.conditions import Conditions
from reports.errors import ReportError
from reports.outcome import Outcome

FILE_NAME = "waivers.toml"
# Which layer is to be mended; "undecided" where it could not be told, which the reason says.
KINDS = ("transformers", "accelerate", "peft", "trl", "torch", "torch_npu", "cann", "hardware", "other", "undecided")
EXPECTED = (Outcome.FAIL, Outcome.CRASH, Outcome.TIMEOUT, Outcome.VACUOUS)
TEXTS = ("defect", "kind", "reason", "link", "owner", "error")
FIELDS = ("id", *TEXTS, "when", "outcome", "expires")
MENDS = f"{FILE_NAME} and reports/waivers.py say what a waiver looks like"


class WaiverError(ReportError):
    """waivers.toml is not in order. The text says which waiver, where, what is wrong and what to do."""


@dataclass(frozen=True)
class Waiver:
    """One known failure; the module's docstring says what the fields mean.

    Attributes:
        ids: pairs of a glob over requirement ids and a glob over the ids of test cases (None: whatever the case).
        place: file and line.
    """

    ids: tuple[tuple[str, str | None], ...]
    defect: str
    kind: str
    reason: str
    link: str
    owner: str
    when: Conditions
    outcome: Outcome
    error: str
    expires: date
    place: str

    def concerns(self, requirement: str, case: str | None) -> bool:
        """Whether it is about a test: the id of its requirement and that of its case (None without parameters)."""
        return any(
            conditions.matches(requirement, [id]) and (of_case is None or conditions.matches(case or "", [of_case]))
            for id, of_case in self.ids
        )

    def expired(self, today: date) -> bool:
        """Whether its last day is over."""
        return today > self.expires

    def expects(self, outcome: str, text: str) -> bool:
        """Whether a failure is the stated one."""
        return outcome == self.outcome and re.search(self.error, text) is not None

    def record(self) -> dict[str, Any]:
        """As a journal keeps it."""
        texts = {name: getattr(self, name) for name in TEXTS}
        ids = [id if case is None else f"{id}[{case}]" for id, case in self.ids]
        return {
            "id": ids,
            **texts,
            "when": self.when.plain(),
            "outcome": str(self.outcome),
            "expires": self.expires.isoformat(),
            "place": self.place,
        }


def read(path: Path) -> tuple[Waiver, ...]:
    """All waivers of a file, in order.

    Raises:
        WaiverError: the file or any waiver is malformed; all of them are named.
    """
    try:
        found = toml.tables(path, "waiver")
    except ReportError as error:
        raise WaiverError(str(error)) from None
    waivers, faults = [], []
    for table in found:
        try:
            waivers.append(_waiver(table))
        except ValueError as error:
            faults.append(f"{table.place}: {error}")
    if faults:
        raise WaiverError("; ".join(faults) + f". {MENDS}")
    return tuple(waivers)


def out_of_order(waivers: Iterable[Waiver], requirements: Collection[str], today: date) -> list[str]:
    """Waivers that are expired or about no requirement of the suite, in words."""
    found = []
    for waiver in waivers:
        name = f"{waiver.place} ({waiver.defect})"
        if waiver.expired(today):
            found.append(
                f"{name} expired on {waiver.expires}. See whether the defect is still there, then renew the date or "
                "remove the waiver"
            )
        for id, _ in waiver.ids:
            if not any(conditions.matches(requirement, [id]) for requirement in requirements):
                found.append(f"{name} is about no requirement: {id!r} matches none. Mend the id or remove the waiver")
    return found


def without_case(waivers: Iterable[Waiver], collected: Mapping[str, Collection[str | None]]) -> list[str]:
    """Waivers whose requirement was collected with all its cases and has none that they name, in words.

    Args:
        waivers: all.
        collected: requirement id -> ids of its test cases.
    """
    return [
        f"{waiver.place} ({waiver.defect}) is about no test case: {f'{id}[{case}]'!r} matches none of "
        f"{', '.join(sorted(str(c) for c in found[0])[:8])}. Mend the id or remove the waiver"
        for waiver in waivers
        for id, case in waiver.ids
        if case is not None
        and (found := [cases for requirement, cases in collected.items() if conditions.matches(requirement, [id])])
        and not any(conditions.matches(c or "", [case]) for cases in found for c in cases)
    ]


def _waiver(table: toml.Table) -> Waiver:
    content = table.content
    missing = [name for name in FIELDS if name not in content and name != "outcome"]
    unknown = [name for name in content if name not in FIELDS]
    if missing or unknown:
        parts = [f"no {', '.join(missing)}"] * bool(missing) + [f"unknown {', '.join(unknown)}"] * bool(unknown)
        raise ValueError("; ".join(parts))
    for name in TEXTS:
        if not isinstance(content[name], str) or not content[name].strip():
            raise ValueError(f"{name}: expected a text, found {content[name]!r}")
    expires = content["expires"]
    if not isinstance(expires, date) or isinstance(expires, datetime):
        raise ValueError(f"expires: expected a date such as 2027-05-25, without quotes, found {expires!r}")
    if content["kind"] not in KINDS:
        raise ValueError(f"kind: {content['kind']!r} is none of {', '.join(KINDS)}")
    if not content["link"].startswith(("https://", "http://")):
        raise ValueError(f"link: expected an address (https://...), found {content['link']!r}")
    outcome = content.get("outcome", "FAIL")
    if outcome not in [str(expected) for expected in EXPECTED]:
        raise ValueError(f"outcome: {outcome!r} is none of {', '.join(map(str, EXPECTED))}")
    try:
        re.compile(content["error"])
    except re.error as error:
        raise ValueError(f"error: no regular expression: {error}") from None
    if re.search(content["error"], ""):
        raise ValueError(f"error: {content['error']!r} matches any error; name the one that is known")
    try:
        when = conditions.parse(content["when"])
    except ValueError as error:
        raise ValueError(f"when: {error}") from None
    if not when.entries:
        raise ValueError("when: empty; a defect is one of some version, so name it, for example torch_npu = '<=2.13.0'")
    return Waiver(
        ids=_ids(content["id"]),
        when=when,
        outcome=Outcome(outcome),
        expires=expires,
        place=table.place,
        **{name: content[name] for name in TEXTS},
    )


def _ids(value: Any) -> tuple[tuple[str, str | None], ...]:
    try:
        found: Sequence[str] = conditions.globs(value)
    except ValueError as error:
        raise ValueError(f"id: {error}") from None
    pairs = []
    for text in found:
        id, bracket, case = text.partition("[")
        if (bracket and not case.endswith("]")) or not id:
            raise ValueError(f"id: expected 'library/id' or 'library/id[case]', found {text!r}")
        pairs.append((id, case[:-1] if bracket else None))
    return tuple(pairs)

"""A run as reports see it: its journal, or its journals where it was sharded or resumed, as one frozen value."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from reports import journal
from reports.conditions import Facts, facts_of
from reports.journal import Journal, JournalError
from reports.outcome import Outcome
from reports.verdict import Verdict, judge


@dataclass(frozen=True)
class Run:
    """All that the journals of one run say.

    Attributes:
        journals: in the order of the time at which they were begun; at least one.
        tests: the records of all tests that ended, each with the keys that journal.REQUIRED names; of a test that a run
            did not reach (NOT_RUN) and one that resumed it executed, the later alone.
        missing: what was to be executed and has no record, as it was described before the run.
        places: file and line of each of ``tests``.
    """

    journals: tuple[Journal, ...]
    tests: tuple[Mapping[str, Any], ...]
    missing: tuple[Mapping[str, Any], ...]
    places: tuple[tuple[Path, int], ...]

    @property
    def header(self) -> Mapping[str, Any]:
        """Of the first journal."""
        return self.journals[0].header

    @property
    def emulated(self) -> bool:
        """Whether any card was emulated."""
        return any(found.header["emulated"] for found in self.journals)

    @cached_property
    def stacks(self) -> tuple[Mapping[str, Any], ...]:
        """What the workers found."""
        return tuple(stack for found in self.journals for stack in found.stacks)

    @property
    def chip(self) -> str | None:
        """The SoC, for example "Ascend910B3"; None if no worker came to know it."""
        return next((stack["chip"] for stack in self.stacks if stack.get("chip")), None)

    @property
    def interrupted(self) -> tuple[Journal, ...]:
        """Journals without a footer that no other resumes: their runs were killed."""
        return tuple(found for found in self.journals if found.footer is None and not _resumed(found, self.journals))

    @property
    def complete(self) -> bool:
        """Whether the run came to its end and every test that it was to execute has a record."""
        return not self.interrupted and not self.missing

    @cached_property
    def plan(self) -> Mapping[str, Any]:
        """What the run was to be: the "plan" of its journals, their lists joined, those of the profile too."""
        joined: Mapping[str, Any] = {}
        for found in self.journals:
            joined = _joined(joined, found.plan or {})
        return joined

    @property
    def facts(self) -> Facts:
        """Of the stack, as conditions of waivers and profiles ask for them."""
        return facts_of(self.header, self.stacks)

    @cached_property
    def verdict(self) -> Verdict:
        """Over all tests, those that never ran included."""
        return judge(self.all_tests(), self.plan, self.facts)

    def all_tests(self) -> list[Mapping[str, Any]]:
        """``tests``, and NOT_RUN records for ``missing`` ones: what a report shows and judges."""
        reason = "the run was killed before it ended"
        filled = ({**test, "type": "test", "outcome": str(Outcome.NOT_RUN), "reason": reason} for test in self.missing)
        return [*self.tests, *filled]


def load(paths: Path | Sequence[Path]) -> Run:
    """Loads a run: a journal, the directory of a run (all journals in it), or several of both (shards).

    A killed run (no footer, a last line that was cut off) is loaded; ``Run.complete`` is False then.

    Raises:
        JournalError: no journal there, or one that cannot be used (journal.read).
    """
    given = [paths] if isinstance(paths, Path) else list(paths)
    files = [file for path in given for file in _files(path)]
    found = sorted((journal.read(file) for file in files), key=_place)
    superseded = _superseded(found)
    kept = [
        (test, (one.path, line))
        for one in found
        for test, line in zip(one.tests, one.lines, strict=True)
        if (one.path, line) not in superseded
    ]
    ended = {test["nodeid"] for test, _ in kept}
    planned = {test["nodeid"]: test for one in found for test in one.selection}
    missing = tuple(test for nodeid, test in planned.items() if nodeid not in ended)
    return Run(tuple(found), tuple(test for test, _ in kept), missing, tuple(place for _, place in kept))


def header_id(found: Journal) -> str:
    """What names a journal: the "sha256" of its header."""
    return str(found.header.get("sha256"))


def add_run_argument(
    parser: argparse.ArgumentParser, help: str = "directory of a run, a journal, or several of both (shards)"
) -> None:
    """The argument RUN, which every report has; ``load(options.run)`` takes it."""
    parser.add_argument("run", metavar="RUN", type=Path, nargs="+", help=help)


def add_output_argument(parser: argparse.ArgumentParser) -> None:
    """The option -o FILE; None means standard output."""
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write there (default: standard output)")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("journal*.jsonl"))
    if not files:
        raise JournalError(f"{path}: no journal ({journal.FILE_NAME}) there. Give a journal or the directory of a run")
    return files


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    joined = dict(one)
    for name, value in other.items():
        mine = joined.get(name)
        if isinstance(value, list) and isinstance(mine, list):
            joined[name] = [*mine, *(item for item in value if item not in mine)]
        elif isinstance(value, Mapping) and isinstance(mine, Mapping):
            joined[name] = _joined(mine, value)
        elif mine is None:
            joined[name] = value
    return joined


def _place(found: Journal) -> tuple[int, str]:
    """Sorts journals by time, those that resume others behind them: clocks have milliseconds, and are put back."""
    return len(found.header.get("resumes", ())), str(found.header.get("time", ""))


def _resumed(found: Journal, journals: Sequence[Journal]) -> bool:
    return any(header_id(found) in one.header.get("resumes", ()) for one in journals)


def _superseded(journals: Sequence[Journal]) -> set[tuple[Path, int]]:
    """Places of NOT_RUN records of resumed journals whose test another journal has."""
    executed = [{test["nodeid"] for test in one.tests} for one in journals]
    return {
        (one.path, line)
        for number, one in enumerate(journals)
        if _resumed(one, journals)
        for test, line in zip(one.tests, one.lines, strict=True)
        if test["outcome"] == Outcome.NOT_RUN
        and any(test["nodeid"] in others for other, others in enumerate(executed) if other != number)
    }

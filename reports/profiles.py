"""profiles.toml: which requirements a claim such as "training-core" must pass, and what of them a stack may lack.

A profile selects requirements by globs over their ids, features and levels; ``unless`` says under which conditions
(reports/conditions.py) tests of them may end UNSUPPORTED or not run. Everywhere else a required test that was skipped,
deselected, found unsupported or never reached leaves the claim open: the verdict is INCOMPLETE.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports import conditions, toml
from reports.conditions import Conditions, Facts
from reports.errors import ReportError
from reports.outcome import UNDECIDED, Outcome
from reports.suite import Declared

FILE_NAME = "profiles.toml"
SELECTS = ("id", "feature", "level")
OF_TEST = ("nodeid", "requirement", "features", "level")  # what a plan keeps of a test


class ProfileError(ReportError):
    """profiles.toml is not in order, or there is no such profile. The text says what is wrong and what to do."""


@dataclass(frozen=True)
class Selector:
    """Globs over ids, features and levels; what it has must match, each by any of its globs."""

    id: tuple[str, ...] = ()
    feature: tuple[str, ...] = ()
    level: tuple[str, ...] = ()

    def selects(self, id: str, features: Iterable[str], level: str) -> bool:
        """Whether it selects a requirement, or a test with features of its own."""
        return (
            (not self.id or conditions.matches(id, self.id))
            and (not self.feature or any(conditions.matches(feature, self.feature) for feature in features))
            and (not self.level or conditions.matches(level, self.level))
        )

    def plain(self) -> dict[str, list[str]]:
        """As JSON and TOML know it."""
        return {name: list(getattr(self, name)) for name in SELECTS if getattr(self, name)}


@dataclass(frozen=True)
class Unless:
    """Tests that a stack need not pass: those that ``tests`` selects, where ``when`` holds, for ``reason``."""

    tests: Selector
    when: Conditions
    reason: str


@dataclass(frozen=True)
class Profile:
    """One profile: what it claims in a sentence, and what it requires."""

    name: str
    sentence: str
    include: tuple[Selector, ...]
    exclude: tuple[Selector, ...]
    unless: tuple[Unless, ...]
    place: str

    def requires(self, one: Declared) -> bool:
        """Whether it requires a requirement."""
        what = (one.id, one.features, one.level)
        return any(s.selects(*what) for s in self.include) and not any(s.selects(*what) for s in self.exclude)


def read(path: Path) -> dict[str, Profile]:
    """All profiles of a file, by name.

    Raises:
        ProfileError: the file or any profile is malformed, or a name is used twice.
    """
    try:
        found = toml.tables(path, "profile")
    except ReportError as error:
        raise ProfileError(str(error)) from None
    profiles: dict[str, Profile] = {}
    for table in found:
        try:
            profile = _profile(table)
        except ValueError as error:
            raise ProfileError(
                f"{table.place}: {error}. {FILE_NAME} and reports/profiles.py say how it looks"
            ) from None
        if profile.name in profiles:
            raise ProfileError(f"{table.place}: a second profile {profile.name!r}; give it another name")
        profiles[profile.name] = profile
    return profiles


def plan(profile: Profile, declared: Sequence[Declared], deselected: Iterable[Mapping] = ()) -> dict[str, Any]:
    """What a run under a profile must answer, as its journal keeps it.

    Args:
        profile: the profile.
        declared: all requirements of the suite.
        deselected: tests of required requirements that this run was told to leave out, as a journal describes tests.

    Raises:
        ProfileError: it requires nothing.
    """
    required = [
        {"id": one.id, "level": one.level, "features": list(one.of_all)} for one in declared if profile.requires(one)
    ]
    if not required:
        raise ProfileError(f"{profile.place}: profile {profile.name!r} selects no requirement of the suite; mend it")
    unless = [{**one.tests.plain(), "when": one.when.plain(), "reason": one.reason} for one in profile.unless]
    left_out = [{name: test[name] for name in OF_TEST} for test in deselected]
    kept = {"required": required, "unless": unless, "deselected": left_out}
    return {"name": profile.name, "sentence": profile.sentence, **kept}


def absent(planned: Mapping[str, Any], records: Sequence[Mapping], facts: Facts) -> list[str]:
    """What a profile requires and no test record is about, in words.

    Args:
        planned: the result of ``plan``, as a journal has it.
        records: of all tests.
        facts: of the stack.

    Raises:
        ReportError: ``planned`` is malformed.
    """
    tested = {record["requirement"] for record in records}
    ended = {record["nodeid"] for record in records}
    excuse = _excuses(planned, facts)
    return [
        *(
            f"{one['id']} is required and was not selected"
            for one in planned["required"]
            if one["id"] not in tested and not excuse(one["id"], one["features"], one["level"])
        ),
        *(
            f"{test['nodeid']} is required and was deselected"
            for test in planned["deselected"]
            if test["nodeid"] not in ended
            and test["requirement"] in tested
            and not excuse(test["requirement"], test["features"], test["level"])
        ),
    ]


def unanswered(planned: Mapping[str, Any], records: Sequence[Mapping], facts: Facts) -> list[str]:
    """Tests that a profile requires and that neither passed nor failed, in words; arguments as ``absent``."""
    required = {one["id"] for one in planned["required"]}
    excuse = _excuses(planned, facts)
    return [
        f"{record['nodeid']} is required and ended {record['outcome']}: {(record['reason'].splitlines() or [''])[0]}"
        for record in records
        if record["requirement"] in required
        and (Outcome(record["outcome"]) in UNDECIDED or record["outcome"] == Outcome.UNSUPPORTED)
        and (
            record["outcome"] == Outcome.INFRA or not excuse(record["requirement"], record["features"], record["level"])
        )
    ]


def _excuses(planned: Mapping[str, Any], facts: Facts):
    try:
        unless = [
            _selector(entry, ("when", "reason"))
            for entry in planned["unless"]
            if conditions.parse(entry["when"]).hold(facts)
        ]
        for one in planned["required"]:
            _ = one["id"], one["features"], one["level"]
        for test in planned["deselected"]:
            _ = [test[name] for name in OF_TEST]
        _ = planned["name"]
    except (KeyError, TypeError, ValueError) as error:
        raise ReportError(
            f"the journal's profile is malformed: {error!r}. Use the journal as the run wrote it"
        ) from None
    return lambda id, features, level: any(one.selects(id, features, level) for one in unless)


def _profile(table: toml.Table) -> Profile:
    content = dict(table.content)
    name, sentence = content.pop("name", None), content.pop("sentence", None)
    if not all(isinstance(text, str) and text for text in (name, sentence)):
        raise ValueError("expected a name and a sentence")
    include = _selectors(content.pop("include", []), "include")
    exclude = _selectors(content.pop("exclude", []), "exclude")
    unless = tuple(_unless(entry) for entry in _list(content.pop("unless", []), "unless"))
    if content:
        raise ValueError(f"unknown {', '.join(content)}")
    if not include:
        raise ValueError("no include, so that it requires nothing")
    return Profile(name, sentence, include, exclude, unless, table.place)


def _selectors(value: Any, what: str) -> tuple[Selector, ...]:
    return tuple(_selector(entry) for entry in _list(value, what))


def _list(value: Any, what: str) -> list[dict]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError(f"{what}: expected a list of tables, found {value!r}")
    return value


def _selector(entry: Mapping[str, Any], beside: Collection[str] = ()) -> Selector:
    found = {name: conditions.globs(entry[name]) for name in SELECTS if name in entry}
    unknown = [name for name in entry if name not in SELECTS and name not in beside]
    if unknown or not found:
        what = f"unknown {', '.join(unknown)}" if unknown else "selects nothing"
        raise ValueError(f"a selector has {', '.join(SELECTS)}; this one: {what}")
    return Selector(**found)


def _unless(entry: dict) -> Unless:
    reason = entry.get("reason")
    if not isinstance(reason, str) or not reason:
        raise ValueError("unless: expected a reason")
    when = conditions.parse(entry.get("when"))
    if not when.entries:
        raise ValueError("unless: an empty condition would always hold; use exclude")
    return Unless(_selector(entry, ("when", "reason")), when, reason)

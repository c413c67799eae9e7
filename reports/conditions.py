"""Conditions on the stack, as waivers.toml and profiles.toml write them, and the facts that decide them.

A condition is a table: ``soc`` (globs over the names that CANN gives chips), ``cann`` (a version specifier), and any
distribution (a version specifier, or "absent"). It holds where all of its entries hold; an entry about something that
is not known, for example the version of CANN on the emulator, does not hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

SOC, CANN, ABSENT = "soc", "cann", "absent"


@dataclass(frozen=True)
class Facts:
    """What is known of a stack.

    Attributes:
        soc: the chip as CANN names it, for example "Ascend910B3"; None if unknown.
        cann: version of CANN; None if there is none, or if it is unknown.
        versions: of distributions; None for one that is not installed.
    """

    soc: str | None = None
    cann: str | None = None
    versions: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Conditions:
    """Entries of one condition: name -> globs of SoCs, a version specifier, or "absent". Empty: it always holds."""

    entries: Mapping[str, str | tuple[str, ...]]

    @property
    def distributions(self) -> tuple[str, ...]:
        """The distributions that it asks for."""
        return tuple(name for name in self.entries if name not in (SOC, CANN))

    def hold(self, facts: Facts) -> bool:
        """Whether every entry holds for a stack."""
        return all(_holds(name, entry, facts) for name, entry in self.entries.items())

    def plain(self) -> dict[str, Any]:
        """As JSON and TOML know it; ``parse`` reads it back."""
        return {name: list(entry) if isinstance(entry, tuple) else entry for name, entry in self.entries.items()}

    def __str__(self) -> str:
        said = ((name, " or ".join(e) if isinstance(e, tuple) else e) for name, e in self.entries.items())
        return ", ".join(f"{name} {entry}" for name, entry in said) or "always"


def parse(table: Any) -> Conditions:
    """Conditions from a table of TOML or JSON.

    Raises:
        ValueError: it is no table, an entry is no text, or not a version specifier.
    """
    if not isinstance(table, Mapping):
        raise ValueError(f"expected a table such as {{ torch_npu = '<=2.13.0', soc = 'Ascend910B*' }}, found {table!r}")
    entries: dict[str, str | tuple[str, ...]] = {}
    for name, value in table.items():
        if name == SOC:
            entries[name] = globs(value)
            continue
        if not isinstance(value, str):
            raise ValueError(f"{name}: expected a version specifier such as '<=2.13.0', found {value!r}")
        if value != ABSENT or name == CANN:
            try:
                SpecifierSet(value)
            except InvalidSpecifier as error:
                raise ValueError(f"{name}: {error}; write, for example, '<=2.13.0'") from None
        entries[name] = value
    return Conditions(entries)


def globs(value: Any) -> tuple[str, ...]:
    """One glob or a list of them, as a tuple.

    Raises:
        ValueError: neither.
    """
    found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else ()
    if not found or not all(isinstance(glob, str) and glob for glob in found):
        raise ValueError(f"expected a pattern or a list of patterns, found {value!r}")
    return found


def matches(text: str, patterns: Iterable[str]) -> bool:
    """Whether a text matches any of the globs."""
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def facts_of(header: Mapping[str, Any], stacks: Iterable[Mapping[str, Any]] = ()) -> Facts:
    """The facts that a journal recorded."""
    soc = next((stack["chip"] for stack in stacks if stack.get("chip")), header.get("chip"))
    cann = (header.get("cann") or {}).get("version")
    return Facts(soc if isinstance(soc, str) else None, cann, header.get("versions") or {})


def _holds(name: str, entry: str | tuple[str, ...], facts: Facts) -> bool:
    if isinstance(entry, tuple):
        return facts.soc is not None and matches(facts.soc, entry)
    if entry == ABSENT:
        return name in facts.versions and facts.versions[name] is None
    found = facts.cann if name == CANN else facts.versions.get(name)
    if not found:
        return False
    try:
        return SpecifierSet(entry, prereleases=True).contains(Version(found))
    except InvalidVersion:
        return False

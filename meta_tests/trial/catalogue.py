"""The catalogue of faults: ``meta_tests/faults.toml``, read and checked. Standard library only."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).parents[1] / "faults.toml"
FIELDS = {"id", "family", "lie", "line", "patch", "requirements", "environment", "deadline", "survives"}
NEEDED = ("id", "family", "lie", "requirements")
# A fault of these ends or empties a test whatever it asks, so that a kill proves no requirement.
LOUD = frozenset({"hang", "crash", "failing call", "null device"})


class CatalogueError(ValueError):
    """The catalogue is not in order. The text says which fault, what was expected and what was found."""


@dataclass(frozen=True)
class Fault:
    """One lie of a broken card, or of a broken library.

    Attributes:
        id: kebab-case, unique, stable.
        family: one of the catalogue's families.
        lie: the fault in one sentence, as a person would describe the broken card.
        line: NPU_EMULATOR_FAULTS; "" where a library lies.
        patch: name of the function of lies.py that makes a library lie; "" where the card lies.
        requirements: those that must catch it; see tests_of for what an entry may be.
        environment: further variables of the run, for example NPU_EMULATOR_SOC.
        deadline: seconds that a test may take.
        survives: why it is expected to survive; "" where it must be killed.
    """

    id: str
    family: str
    lie: str
    requirements: tuple[str, ...]
    line: str = ""
    patch: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    deadline: float = 300.0
    survives: str = ""

    @property
    def loud(self) -> bool:
        """Whether a kill says nothing about the requirement that made it."""
        return self.family in LOUD


@dataclass(frozen=True)
class Catalogue:
    """All faults, and the families with what they are about."""

    families: Mapping[str, str]
    faults: tuple[Fault, ...]

    def matching(self, pattern: str) -> tuple[Fault, ...]:
        """The faults of which the id or the family matches one of the shell patterns, separated by commas."""
        return tuple(fault for fault in self.faults if matches(fault.id, pattern) or matches(fault.family, pattern))


def matches(name: str, pattern: str) -> bool:
    """Whether a name matches one of the shell patterns, which are separated by commas."""
    return any(fnmatch.fnmatchcase(name, part.strip()) for part in pattern.split(","))


def read(path: Path = FILE) -> Catalogue:
    """Reads and checks the catalogue.

    Raises:
        CatalogueError: it is not TOML, or a fault is malformed or stands there twice.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"{path}: {error}") from None
    families = tables.get("families", {})
    faults = tuple(
        _fault(table, families, f"{path.name}, fault {number}") for number, table in enumerate(tables["fault"], 1)
    )
    for fault in faults:
        if [other.id for other in faults].count(fault.id) > 1:
            raise CatalogueError(f"{path.name}: the id {fault.id!r} stands there twice")
    return Catalogue(families, faults)


def _fault(table: Mapping, families: Mapping, where: str) -> Fault:
    where = f"{where} ({table.get('id', 'without an id')})"
    if unknown := sorted(set(table) - FIELDS):
        raise CatalogueError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(sorted(FIELDS))}")
    if missing := [name for name in NEEDED if not table.get(name)]:
        raise CatalogueError(f"{where}: {', '.join(missing)} missing")
    if bool(table.get("line")) == bool(table.get("patch")):
        raise CatalogueError(f"{where}: expected either line (the card lies) or patch (a library lies)")
    if table["family"] not in families:
        raise CatalogueError(f"{where}: unknown family {table['family']!r}; known are {', '.join(families)}")
    if not table["lie"].endswith("."):
        raise CatalogueError(f"{where}: the lie is a sentence and ends with a full stop, not {table['lie']!r}")
    environment = {name: str(value) for name, value in table.get("environment", {}).items()}
    return Fault(**{**table, "requirements": tuple(table["requirements"]), "environment": environment})


def tests_of(entry: str, tests: Sequence[Mapping]) -> list[str]:
    """The node ids that an entry of ``requirements`` means.

    Args:
        entry: "id", "id[pattern of the parameters]", several by commas; an id may be a shell pattern.
        tests: descriptions of all collected tests, with "requirement" and "nodeid".

    Raises:
        CatalogueError: a part of the entry means no test.
    """
    found: list[str] = []
    for part in entry.split(","):
        name, _, pattern = part.strip().partition("[")
        pattern = pattern.removesuffix("]") or "*"
        own = [
            test["nodeid"]
            for test in tests
            if fnmatch.fnmatchcase(test["requirement"], name)
            and fnmatch.fnmatchcase(_parameters(test["nodeid"]), pattern)
        ]
        if not own:
            parameters = [_parameters(t["nodeid"]) for t in tests if fnmatch.fnmatchcase(t["requirement"], name)]
            known = f"; its parameters are {', '.join(parameters[:20])}" if parameters else ""
            raise CatalogueError(f"no test of the suite proves {part.strip()!r}{known}")
        found += [node for node in own if node not in found]
    return found


def _parameters(nodeid: str) -> str:
    return nodeid.partition("[")[2].removesuffix("]")

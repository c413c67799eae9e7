"""What test records say in numbers: loss curves, headroom, performance. Pure functions of records (journal.py).

Numbers come from a file that anybody may have written: what is no finite number where one belongs is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

REFERENCE = " (reference)"  # what fixtures/evidence.py appends to the name of a curve for that of the CPU
SHORTEST_CURVE = 3  # points; less is no curve
LARGEST = 1e200  # what is beyond it is as good as infinite, and cannot be drawn


@dataclass(frozen=True)
class Curve:
    """A value per step, for example the training loss.

    Attributes:
        name: of the value.
        measured: on the card; NaN where it was not finite, or beyond LARGEST.
        reference: on the CPU; () where there is none, else as long as ``measured``.
        limits: largest relative difference that conforms, by part: "first", "second", "mean", "signed mean".
    """

    name: str
    measured: tuple[float, ...]
    reference: tuple[float, ...] = ()
    limits: tuple[tuple[str, float], ...] = ()

    @property
    def differences(self) -> tuple[float, ...]:
        """Relative difference from the reference, step by step; NaN where it is not known."""
        return tuple(
            (m - r) / abs(r) if abs(r) > 1 / LARGEST else math.nan
            for m, r in zip(self.measured, self.reference, strict=True)
        )

    @property
    def band(self) -> tuple[float, ...]:
        """Largest relative difference that conforms, step by step; () without limits.

        The first two steps have limits of their own; that of the mean over all steps is drawn at the others.
        """
        limits = dict(self.limits)
        if "mean" not in limits:
            return ()
        parts = ["first", "second"]
        return tuple(
            limits.get(part, limits["mean"]) for part in (parts + ["mean"] * len(self.measured))[: len(self.measured)]
        )


@dataclass(frozen=True)
class Headroom:
    """How much of a limit one check used: measured / limit; above 1 it did not conform, infinite where none applies."""

    check: str
    statistic: str
    used: float
    measured: float | None
    limit: float | None


@dataclass(frozen=True)
class Performance:
    """How fast a workload trained.

    Attributes:
        workload: the specification, as it is written.
        world_size: number of ranks.
        step_seconds: of each step after the warm-up, synchronised.
        examples_per_step: None where the workload does not say.
        peak_bytes: largest allocation on the card during training; 0 where it is not known.
    """

    workload: str
    world_size: int
    step_seconds: tuple[float, ...]
    examples_per_step: int | None
    peak_bytes: int

    @property
    def step(self) -> float:
        """Median seconds of a step."""
        return median(self.step_seconds)

    @property
    def throughput(self) -> float | None:
        """Examples in a second, at the median step."""
        return self.examples_per_step / self.step if self.examples_per_step and self.step else None


def number(value: Any) -> float | None:
    """A number as evidence.plain wrote it ("nan", "inf", "-inf" are texts), or None."""
    if type(value) is float:  # nearly always; a large journal has millions
        return value
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    if isinstance(value, str) and value not in ("nan", "inf", "-inf"):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def finite(value: Any) -> float | None:
    """A finite number, or None."""
    found = number(value)
    return found if found is not None and math.isfinite(found) else None


def curves(record: Mapping) -> list[Curve]:
    """Values per step of a test that have at least SHORTEST_CURVE points."""
    values = record.get("values") or {}
    series = {
        name: measured
        for name, value in values.items()
        if not name.endswith(REFERENCE)
        and (name + REFERENCE in values or name == "losses")
        and (measured := _series(value))
    }
    limits = _limits(record) if series else {}
    return [
        Curve(name, measured, _series(values.get(name + REFERENCE), len(measured)), limits.get(name, ()))
        for name, measured in series.items()
    ]


def headrooms(record: Mapping) -> list[Headroom]:
    """What the checks of a test used of their limits, in the order of the checks."""
    return [
        Headroom(
            str(check.get("check")),
            str(check.get("statistic")),
            used,
            number(check.get("measured")),
            number(check.get("limit")),
        )
        for check in _objects(record.get("checks"))
        if (used := number(check.get("headroom"))) is not None and not math.isnan(used)
    ]


def least_headroom(record: Mapping) -> Headroom | None:
    """The check of a test that used most of its limit, or None where no check has a limit that is a number."""
    return max(
        (found for found in headrooms(record) if found.limit is not None), key=lambda found: found.used, default=None
    )


def performances(record: Mapping) -> list[Performance]:
    """How fast the workloads of a test trained."""
    found = []
    for entry in _objects(record.get("performance")):
        seconds = tuple(s for value in entry.get("step_seconds") or () if (s := finite(value)) is not None and s > 0)
        world_size, examples, peak = (
            finite(entry.get(name)) for name in ("world_size", "examples_per_step", "peak_bytes")
        )
        if seconds:
            found.append(
                Performance(
                    str(entry.get("workload")),
                    int(world_size or 1),
                    seconds,
                    int(examples) if examples else None,
                    int(peak or 0),
                )
            )
    return found


def all_performances(records: Sequence[Mapping]) -> dict[tuple[str, int], Performance]:
    """How fast each workload trained, by workload and world size, each once however many tests shared it."""
    found: dict[tuple[str, int], Performance] = {}
    for record in records:
        for one in performances(record):
            found.setdefault((one.workload, one.world_size), one)
    return found


def fallbacks(record: Mapping) -> list[str]:
    """Operators that ran on the CPU instead of the card."""
    found = (
        finding.get("operator") for finding in _objects(record.get("findings")) if finding.get("kind") == "cpu-fallback"
    )
    return list(dict.fromkeys(str(operator) for operator in found if operator))


def ranks(record: Mapping) -> list[Mapping]:
    """What became of each rank (fixtures/ranks.py), in order."""
    return list(_objects((record.get("values") or {}).get("ranks")))


def _objects(value: Any) -> Iterator[Mapping]:
    # Records are read from JSON; asking for a Mapping would take longer than all else.
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def _limits(record: Mapping) -> dict[str, tuple[tuple[str, float], ...]]:
    found: dict[str, list[tuple[str, float]]] = {}
    for check in _objects(record.get("checks")):
        statistic, limit = str(check.get("statistic")), finite(check.get("limit"))
        if statistic.endswith(" relative difference") and limit is not None:
            found.setdefault(str(check.get("check")), []).append(
                (statistic.removesuffix(" relative difference"), limit)
            )
    return {name: tuple(limits) for name, limits in found.items()}


def _series(value: Any, length: int | None = None) -> tuple[float, ...]:
    """The numbers of a list of at least SHORTEST_CURVE of them (exactly ``length``), or ()."""
    if not isinstance(value, list) or len(value) < SHORTEST_CURVE or (length is not None and len(value) != length):
        return ()
    found = [number(item) for item in value]
    if None in found:
        return ()
    return tuple(item if abs(item) < LARGEST else math.nan for item in found)

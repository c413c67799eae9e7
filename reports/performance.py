"""Whether a workload trained slower or took more memory: a comparison that knows how much its measurements scatter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from reports.measurements import Performance

SLOWER, FASTER, ALIKE, UNCLEAR = "slower", "faster", "alike", "unclear"
# Less is not called a difference, however little the steps scatter.
SMALLEST_TIME, SMALLEST_MEMORY, SMALLEST_BYTES = 0.10, 0.05, 2**20
SIGMAS = 3.0
FEWEST_STEPS = 5
# 1.4826 times the median absolute deviation estimates the standard deviation of normal values.
MAD = 1.4826


@dataclass(frozen=True)
class Speed:
    """One workload in two sets of runs.

    Attributes:
        workload, world_size: what was trained, on how many ranks.
        before, after: median over runs of the median seconds of a step.
        throughput_before, throughput_after: examples in a second, at those; None where the workload does not say.
        bytes_before, bytes_after: median over runs of the largest allocation.
        repeats: runs of the side that has fewer.
        noise: smallest relative difference of time that would be one; infinite with less than FEWEST_STEPS steps.
        time: SLOWER, FASTER, ALIKE, or UNCLEAR where the steps scatter too much to see SMALLEST_TIME.
        memory: "more", "less" or ALIKE.
    """

    workload: str
    world_size: int
    before: float
    after: float
    throughput_before: float | None
    throughput_after: float | None
    bytes_before: float
    bytes_after: float
    repeats: int
    noise: float
    time: str
    memory: str

    @property
    def ratio(self) -> float:
        """Time after / before; above 1 it is slower."""
        return self.after / self.before


def compare(before: Sequence[Performance], after: Sequence[Performance]) -> Speed:
    """Compares a workload in several runs before with several after; one run on each side at least.

    With two runs or more on each side, the scatter is that of the runs' medians: it has whatever differs from run to
    run (load of the machine, temperature, placement). With one run it is that of its steps, which knows nothing of
    that: the answer is then a suspicion, and ``repeats`` says so.
    """
    medians = [[one.step for one in side] for side in (before, after)]
    old, new = (median(values) for values in medians)
    repeats = min(len(before), len(after))
    steps = min(len(one.step_seconds) for one in (*before, *after))
    scatter = [_spread(values) for values in medians] if repeats > 1 else [_scatter(side) for side in (before, after)]
    noise = max(SMALLEST_TIME, SIGMAS * math.hypot(*scatter)) if steps >= FEWEST_STEPS else math.inf
    throughputs = [[one.throughput for one in side if one.throughput] for side in (before, after)]
    sizes = [median(one.peak_bytes for one in side) for side in (before, after)]
    return Speed(
        workload=before[0].workload,
        world_size=before[0].world_size,
        before=old,
        after=new,
        throughput_before=median(throughputs[0]) if throughputs[0] else None,
        throughput_after=median(throughputs[1]) if throughputs[1] else None,
        bytes_before=sizes[0],
        bytes_after=sizes[1],
        repeats=repeats,
        noise=noise,
        time=_time(new / old, noise),
        memory=_memory(*sizes),
    )


def sign_test(ratios: Sequence[float]) -> float:
    """How probable it is that so many ratios, or more, lie on one side of 1 by chance (two-sided sign test); 1.0 for
    none.
    """
    above, below = sum(ratio > 1 for ratio in ratios), sum(ratio < 1 for ratio in ratios)
    count = above + below
    if not count:
        return 1.0
    tail = sum(math.comb(count, k) for k in range(max(above, below), count + 1)) / 2**count
    return min(1.0, 2 * tail)


def _time(ratio: float, noise: float) -> str:
    if ratio > 1 + noise:
        return SLOWER
    if ratio < 1 / (1 + noise):
        return FASTER
    return ALIKE if noise <= SMALLEST_TIME else UNCLEAR


def _memory(before: float, after: float) -> str:
    if before <= 0 or after <= 0 or abs(after - before) < SMALLEST_BYTES:
        return ALIKE
    if after > before * (1 + SMALLEST_MEMORY):
        return "more"
    return "less" if before > after * (1 + SMALLEST_MEMORY) else ALIKE


def _scatter(side: Sequence[Performance]) -> float:
    """Relative standard deviation of single steps, from the median absolute deviation: outliers do not count."""
    middle = median(side[0].step_seconds)
    return MAD * median(abs(seconds - middle) for seconds in side[0].step_seconds) / middle


def _spread(medians: Sequence[float]) -> float:
    """Relative standard deviation of the runs' medians. From few runs the range is the better estimate."""
    return (max(medians) - min(medians)) / median(medians) / 2

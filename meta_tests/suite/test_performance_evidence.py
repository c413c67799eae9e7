"""Every run records how fast the workloads of its tests trained; the reports read it."""

from dataclasses import dataclass

from fixtures.evidence import Evidence
from fixtures.measured import Measured
from reports.measurements import performances


@dataclass(frozen=True)
class Training:
    """A specification of a workload."""

    precision: str = "fp32"
    steps: int = 40
    batch: int = 16
    gradient_accumulation: int = 1
    data: tuple = ()


def recorded(workload, measured: Measured, world_size: int = 1) -> list:
    """What the reports read of a test that trained a workload."""
    evidence = Evidence("demo/thing", "pytest")
    evidence.time(workload, measured, world_size)
    return performances({"performance": evidence.performance})


def test_steps_throughput_and_memory():
    """The median step, examples in a second over all micro batches, and the peak memory of a workload are recorded."""
    measured = Measured(losses=(1.0,), step_seconds=(0.5, 0.25, 0.25), peak_memory_bytes=2**20)

    (found,) = recorded(Training(precision="fp16", gradient_accumulation=2), measured, world_size=4)

    assert found.workload == "Training(precision='fp16', gradient_accumulation=2)"
    assert (found.world_size, found.step, found.throughput, found.peak_bytes) == (4, 0.25, 128, 2**20)


def test_what_was_not_timed_is_not_recorded():
    """A workload that is shorter than its warm-up has no step time, and none is invented."""
    assert recorded(Training(), Measured(losses=(1.0,))) == []


def test_long_fields_are_cut():
    """A field with much data does not go into the name of the workload."""
    (found,) = recorded(Training(data=tuple(range(10_000))), Measured(losses=(1.0,), step_seconds=(0.1,)))

    assert len(found.workload) < 400

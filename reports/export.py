"""What the exports (JUnit, CTRF, Markdown, CSV) share: arguments, writing, and facts of single records."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from reports import run as runs
from reports.files import write_whole
from reports.measurements import finite
from reports.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN and -o FILE."""
    runs.add_run_argument(parser)
    runs.add_output_argument(parser)


def emit(options: argparse.Namespace, render: Callable[[Run], str]) -> int:
    """Writes what ``render`` makes of the run, to -o FILE or to standard output."""
    text = render(runs.load(options.run))
    if options.output:
        write_whole(options.output, text)
    else:
        sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    return 0


def seconds(record: Mapping[str, Any]) -> float:
    """How long a test took, all its phases; 0 where it did not run."""
    return sum(value for part in (record.get("seconds") or {}).values() if (value := finite(part)) is not None)


def milliseconds(time: Any) -> int:
    """A journal's time (ISO 8601, UTC) in milliseconds since 1970; 0 where there is none."""
    try:
        found = datetime.fromisoformat(str(time).replace("Z", "+00:00"))
    except ValueError:
        return 0
    aware = found if found.tzinfo else found.replace(tzinfo=timezone.utc)
    return int(aware.timestamp() * 1000)


def started(run: Run) -> Any:
    """When the first journal was begun, as journals write times."""
    return run.header.get("time")


def ended(run: Run) -> Any:
    """When the last record was written."""
    times = [one.footer.get("time") for one in run.journals if one.footer] + [test.get("time") for test in run.tests]
    return max((str(time) for time in times if time), default=started(run))


def environment(run: Run) -> dict[str, str]:
    """What was tested, in a few words each: cards, chip, CANN, driver, libraries."""
    header = run.header
    versions = {str(name): str(version) for name, version in header["versions"].items() if version}
    facts = {
        "emulated": "yes" if run.emulated else "no",
        "cards": str(len(header["cards"])),
        "chip": run.chip,
        "cann": run.facts.cann,
        "driver": header.get("driver"),
        "firmware": header.get("firmware"),
        "revision": header.get("revision"),
        "architecture": header.get("architecture"),
        "os": header.get("os"),
    }
    return {**{name: str(value) for name, value in facts.items() if value is not None}, **versions}

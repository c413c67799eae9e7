"""The operator sweep: PyTorch's operators on the emulated card against the CPU.

    python -m meta_tests.emulator.operator_sweep [--operators REGEX] [--dtypes float32,...] [--jobs 2] [--report FILE]

compares, prints what differs and is not explained by operator_differences.toml, and a line of figures.

Operators may crash or hang, so they run in child processes (operator_sweep_child.py), of which each takes every N-th
operator and writes a JSON line before and after each operator and dtype. When a child dies or is silent for too long,
the operator that it had started is reported, and a new child goes on behind it.

TASK_QUEUE_ENABLE=0 makes torch_npu call operators one by one from Python's thread: with its queue, all later operators
of a process are silently dropped after one that failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from meta_tests.emulator.operator_findings import Finding, allowed_differences, stale, unexplained

ROOT = Path(__file__).resolve().parents[2]
DTYPES = ("float32", "float16", "bfloat16", "int64", "bool")
PATIENCE_SECONDS = 120.0
"""How long a child may take for one operator in one dtype, or to start. The slowest takes about 6 s on a core."""
LOOK_SECONDS = 0.5
MOST_RESTARTS = 12
FALLBACK = re.compile(r"The operator 'aten::(\w+)[^']*' is not currently supported on the NPU backend")


@dataclass
class Sweep:
    """The outcome of a sweep or of a shard of it."""

    findings: list[Finding] = field(default_factory=list)
    swept: dict[tuple[str, str], dict] = field(default_factory=dict)
    """By (operator, dtype): the child's "done" record: numbers of samples and checks, and the aten operators."""
    known: set[str] = field(default_factory=set)
    fallbacks: set[str] = field(default_factory=set)
    """Aten operators that torch_npu computed on the CPU because it has no kernel for them."""
    calls: Counter = field(default_factory=Counter)
    """Emulated operators by how often they were called."""

    def add(self, other: Sweep) -> None:
        """Adds another shard."""
        self.findings += other.findings
        self.swept |= other.swept
        self.known |= other.known
        self.fallbacks |= other.fallbacks
        self.calls += other.calls

    def figures(self) -> dict:
        """What was compared, by dtype and in all, as published; `merged` adds those of several shards."""

        def count(dtype: str | None) -> dict[str, int]:
            done = [record for key, record in self.swept.items() if dtype in (None, key[1]) and record["samples"]]
            on_card = [record for record in done if not self.fallbacks.intersection(record["aten"])]
            return {
                "operators": len({record["operator"] for record in done}),
                "operators_without_cpu_fallback": len({record["operator"] for record in on_card}),
                "samples": sum(record["samples"] for record in done),
                "comparisons": sum(sum(record["checks"].values()) for record in done),
            }

        return {
            "all": count(None),
            **{dtype: count(dtype) for dtype in DTYPES},
            "differences": len(self.findings),
            "emulated_operators_called": sorted(self.calls),
        }


COUNTED = ("all", *DTYPES)


def merged(figures: Sequence[dict]) -> dict:
    """The figures of several shards, none of which has an operator of another, as those of one sweep."""
    return {
        **{
            key: {name: sum(each[key][name] for each in figures) for name in figures[0][key]}
            for key in ("all", *DTYPES)
        },
        "differences": sum(each["differences"] for each in figures),
        "emulated_operators_called": sorted(set().union(*(each["emulated_operators_called"] for each in figures))),
    }


def summary(figures: dict) -> str:
    """The figures in one line."""
    total = figures["all"]
    by_dtype = ", ".join(f"{dtype} {figures[dtype]['operators']}/{figures[dtype]['samples']}" for dtype in DTYPES)
    return (
        f"operators compared: {total['operators']} ({total['operators_without_cpu_fallback']} without a CPU fall-back "
        f"of torch_npu), samples: {total['samples']} (operators/samples: {by_dtype}), "
        f"comparisons: {total['comparisons']}, emulated operators called: {len(figures['emulated_operators_called'])}, "
        f"listed differences: {figures['differences']}"
    )


def sweep_shard(
    shard: int,
    shards: int,
    operators: str,
    dtypes: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> Sweep:
    """Compares one shard of the operators whose name has the pattern, in child processes with logs in the folder.

    Raises:
        RuntimeError: The child does not start, or dies again and again.
    """
    sweep = Sweep()
    after = ""
    for attempt in range(MOST_RESTARTS):
        events, errors, log = (folder / f"{shard}-{attempt}.{kind}" for kind in ("events", "stderr", "log"))
        events.touch()
        argv = [sys.executable, "-m", "meta_tests.emulator.operator_sweep_child"]
        argv += ["--shard", f"{shard}/{shards}", "--operators", operators, "--dtypes", ",".join(dtypes)]
        argv += ["--events", str(events), "--after", after]
        with errors.open("w") as stream:
            child = subprocess.Popen(
                [*launcher(), *argv],
                cwd=ROOT,
                env=child_environment(log) | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        try:
            end = wait(child, events)
        finally:
            end_group(child)
        text = errors.read_text(errors="replace")
        sweep.fallbacks.update(FALLBACK.findall(text))
        sweep.calls += called(log)
        started = collect(events, sweep)
        if end == "exit code 0":
            return sweep
        if started is None or end == "exit code 1":  # an exception of the sweep's own
            raise RuntimeError(f"the operator sweep's child ended with {end} at {started}: {text[-3000:]}")
        operator, dtype = started
        tail = " ".join(text.strip().splitlines()[-3:])[-300:]
        sweep.findings.append(Finding(operator, dtype, "process", f"the process ended with {end}: {tail}"))
        after = f"{operator}:{dtype}"
    raise RuntimeError(
        f"the operator sweep's child died {MOST_RESTARTS} times: {'; '.join(map(str, sweep.findings[-3:]))}"
    )


def launcher() -> list[str]:
    """The words before a command that runs on an emulated card."""
    return [sys.executable, "-m", "emulator"]


def child_environment(log: Path) -> dict[str, str]:
    """The caller's environment without its own emulator settings, which would change what is compared."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("NPU_EMULATOR_") or name == "NPU_EMULATOR_CACHE"
    }
    for name in ("TORCH_NPU_WARNING_DISABLE", "ASCEND_LAUNCH_BLOCKING", "ASCEND_RT_VISIBLE_DEVICES"):
        kept.pop(name, None)
    return kept | {
        "TASK_QUEUE_ENABLE": "0",
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "1",
        "OMP_NUM_THREADS": "1",
        "NPU_EMULATOR_CARDS": "1",
        "NPU_EMULATOR_LOG": str(log),
    }


def wait(child: subprocess.Popen, events: Path) -> str:
    """Waits for the child's end and says what it was; ends it where it is silent for too long.

    Silence is counted in looks, not by the clock, so that a machine that was suspended does not count as a hang.
    """
    size, looks = 0, 0
    while True:
        try:
            code = child.wait(timeout=LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            looks = looks + 1 if events.stat().st_size == size else 0
            size = events.stat().st_size
            if looks * LOOK_SECONDS > PATIENCE_SECONDS:
                end_group(child)
                return f"a hang (no operator finished within {PATIENCE_SECONDS:.0f} s)"
            continue
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def end_group(child: subprocess.Popen) -> None:
    """Ends the child and what it started, where it has not ended."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def collect(events: Path, sweep: Sweep) -> tuple[str, str] | None:
    """Adds a child's events to the sweep; returns the operator and dtype that it started last."""
    started = None
    for line in events.read_text().splitlines():
        event = json.loads(line)
        if "known" in event:
            sweep.known.update(event["known"])
        elif "findings" in event:
            sweep.findings += [Finding(**finding) for finding in event.pop("findings")]
            sweep.swept[event["operator"], event["dtype"]] = event
        else:
            started = event["operator"], event["dtype"]
    return started


def called(log: Path) -> Counter:
    """How often the processes that wrote this log called which emulated operators."""
    calls: Counter = Counter()
    for line in log.read_text().splitlines() if log.exists() else []:
        record = json.loads(line)
        if record.get("call", "").startswith(("aclnn", "aclStft")):
            calls[record["call"]] += record["count"]
    return calls


def sweep_all(operators: str = "", dtypes: Sequence[str] = DTYPES, jobs: int = 2) -> tuple[Sweep, dict]:
    """The whole sweep, in `jobs` child processes at a time, and its figures."""
    shards = 1 if operators else 4 * jobs
    total = Sweep()
    with tempfile.TemporaryDirectory(prefix="operator-sweep-") as folder, ThreadPoolExecutor(jobs) as pool:
        parts = [pool.submit(sweep_shard, shard, shards, operators, dtypes, Path(folder)) for shard in range(shards)]
        figures = [part.result().figures() for part in parts]
        for part in parts:
            total.add(part.result())
    return total, merged(figures)


def main() -> int:
    """Runs the sweep from the command line; exit code 1 where something differs without an explanation."""
    parser = argparse.ArgumentParser(description="Compares PyTorch's operators on the emulated card with the CPU.")
    parser.add_argument("--operators", default="", metavar="REGEX", help="only those whose name has this pattern")
    parser.add_argument("--dtypes", default=",".join(DTYPES), help=f"comma separated (default: {','.join(DTYPES)})")
    parser.add_argument("--jobs", type=int, default=2, help="child processes at a time (default: 2)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write figures and all findings as JSON")
    options = parser.parse_args()
    try:
        re.compile(options.operators)
    except re.error as error:
        parser.error(f"--operators {options.operators!r} is not a regular expression: {error}")
    dtypes = options.dtypes.split(",")
    if set(dtypes) - set(DTYPES):
        parser.error(f"--dtypes {options.dtypes}: known are {', '.join(DTYPES)}")
    sweep, figures = sweep_all(options.operators, dtypes, options.jobs)
    allowed = allowed_differences()
    wrong = unexplained(sweep.findings, allowed)
    outdated = stale(sweep.findings, allowed, set(sweep.swept), sweep.known) if len(dtypes) == len(DTYPES) else []
    if options.report:
        slowest = sorted(sweep.swept.items(), key=lambda item: -item[1]["seconds"])[:20]
        report = {
            "figures": figures,
            "unexplained": [asdict(finding) for finding in wrong],
            "stale": outdated,
            "fallbacks": sorted(sweep.fallbacks),
            "calls": dict(sorted(sweep.calls.items())),
            "slowest": {f"{operator} {dtype}": record["seconds"] for (operator, dtype), record in slowest},
            "findings": [asdict(finding) for finding in sweep.findings],
        }
        options.report.write_text(json.dumps(report, indent=1) + "\n")
    last = f"unexplained: {len(wrong)}, stale entries of the list: {len(outdated)}"
    sys.stdout.write("\n".join([*digest(wrong), *outdated, summary(figures), last]) + "\n")
    return 1 if wrong or outdated else 0


def digest(findings: Sequence[Finding]) -> list[str]:
    """The findings for a person: of each operator, dtype and check the first, and how many there are."""
    first: dict[tuple, Finding] = {}
    count: Counter = Counter()
    for finding in findings:
        key = finding.operator, finding.dtype, finding.check
        first.setdefault(key, finding)
        count[key] += 1
    return [f"{finding}{f' (and {count[key] - 1} more)' if count[key] > 1 else ''}" for key, finding in first.items()]


if __name__ == "__main__":
    sys.exit(main())

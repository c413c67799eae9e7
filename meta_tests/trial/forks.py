"""Runs of the suite in processes forked from this one, which has imported the libraries but called nothing of the card.

To start Python and to import torch, torch_npu and the Trainer takes longer than most tests; forked, a run starts at
once. The emulator reads its settings again in a process that was forked before anything was called.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from emulator.launch import LEDGER_VARIABLE, share_accounting
from fixtures import processes
from meta_tests.trial import lies
from reports.journal import FILE_NAME
from reports.outcome import Outcome

ROOT = Path(__file__).parents[2]
MARK = "NPU_CONFORMANCE_TRIAL"  # inherited by every process of a run, with a value of its own
MODEL = "meta_tests/models/llama/config.json"  # of the tests that ask for a user's own model
PROGRESS, OUTPUT, LOG = "progress.jsonl", "output.txt", "emulator.jsonl"
# What the libraries import when they are first used, and would be imported in each run anew.
WARM = (
    *("torch", "torch_npu", "torch._dynamo", "torch.distributed.checkpoint", "torch.fft", "torch.utils.checkpoint"),
    *("transformers.trainer", "transformers.pipelines", "transformers.generation.utils", "accelerate.checkpointing"),
    *("transformers.models.bert.modeling_bert", "transformers.models.llama.modeling_llama", "accelerate.test_utils"),
    *("transformers.models.gpt2.modeling_gpt2", "transformers.models.qwen2.modeling_qwen2", "datasets", "tokenizers"),
    *("peft", "trl", "safetensors.torch", "xdist.plugin", "xdist.dsession", "_pytest.assertion.rewrite"),
)


class TrialError(RuntimeError):
    """The trial itself cannot go on. The text says what was expected, what was found and where to look."""


@dataclass(frozen=True)
class TestResult:
    """How one test ended in a run.

    Attributes:
        nodeid, outcome, reason: as in the journal; CRASH or TIMEOUT where the process ended while the test ran.
        seconds: that the test took.
        after: seconds from the start of the run until it was known.
        called: its set-up was over, so that the test itself had a say.
        fired: the faults that fired during the test.
    """

    __test__ = False  # for pytest, which looks at names
    nodeid: str
    outcome: str
    reason: str
    seconds: float
    after: float
    called: bool
    fired: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """What is to be run: tests, on cards that are set so.

    Attributes:
        name: of its directory.
        tests: node ids.
        environment: variables, NPU_EMULATOR_FAULTS among them.
        patch: the lie of a library, or "".
        deadline: seconds for each test.
        localised: a failed comparison is followed up, to the operator that is wrong.
        model: what --model gets, from the root of the suite, or "".
    """

    name: str
    tests: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    patch: str = ""
    deadline: float = 300.0
    localised: bool = False
    model: str = ""


@dataclass(frozen=True)
class Ran:
    """What became of a run.

    Attributes:
        results: of each test.
        fired: how often its faults fired, over all processes.
        seconds: that it took; on a busy machine longer than elsewhere.
        cpu: processor time of its processes, in seconds.
    """

    run: Run
    results: tuple[TestResult, ...]
    fired: int
    seconds: float
    cpu: float


def warm_up() -> None:
    """Imports what every run would import."""
    for name in WARM:
        importlib.import_module(name)


def collect() -> list[dict]:
    """Descriptions of all tests of the suite, as the journal has them, with "multi" (it needs several cards) and
    "model" (it runs with --model alone).
    """
    return [{**test, "model": bool(model)} for model in ("", MODEL) for test in _collected(model)]


def _collected(model: str) -> list[dict]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "w") as file, open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            options = ["--collect-only", "-q", "-n", "0", "-m", "", *_asking_for(model)]
            code = pytest.main(options, plugins=[_Collector(file)])
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    if os.waitpid(child, 0)[1] != 0 or not text:
        raise TrialError("the suite could not be collected. Look at: pytest --collect-only -q -n 0")
    return json.loads(text)


def _asking_for(model: str) -> list[str]:
    return [f"--model={ROOT / model}"] if model else []


class _Collector:
    def __init__(self, file):
        self.file = file

    def pytest_collection_finish(self, session) -> None:
        from fixtures.recording import describe

        many = {item.nodeid: item.get_closest_marker("multi_npu") is not None for item in session.items}
        self.file.write(json.dumps([{**describe(item), "multi": many[item.nodeid]} for item in session.items]))


class _Progress:
    """Notes which test has begun and which has ended, for the case that the process dies, and what fired between."""

    def __init__(self, file: Path, log: Path):
        self.file, self.log = file.open("a"), log
        self.fired = _fired(log)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._note("began", nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        before, self.fired = self.fired, _fired(self.log)
        self._note("ended", nodeid, fired=[fault for fault, count in self.fired.items() if count > before[fault]])

    def _note(self, event: str, nodeid: str, **more) -> None:
        self.file.write(json.dumps({"event": event, "nodeid": nodeid, "time": time.time(), **more}) + "\n")
        self.file.flush()


class _Going:
    """A run that is under way: one forked process after another, until every test has an outcome."""

    def __init__(self, run: Run, directory: Path, references: Path):
        self.run, self.directory, self.references = run, directory, references
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.left = list(run.tests)
        self.results: list[TestResult] = []
        self.attempt, self.cpu = 0, 0.0
        self.began = time.time()
        self.start()

    def start(self) -> None:
        self.attempt += 1
        self.here = self.directory / str(self.attempt)
        self.here.mkdir()
        # A name of its own: the path is part of some workloads, whose reference on the CPU writes the file anew.
        self.temporary = self.here / f"tmp-{time.time_ns()}"
        self.attempt_began = time.time()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._child()

    def _child(self) -> None:
        code = 1
        try:
            os.setsid()
            output = os.open(self.here / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            for stream in (1, 2):
                os.dup2(output, stream)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.environ.update(self.run.environment)
            os.environ["NPU_EMULATOR_LOG"] = str(self.directory / LOG)
            os.environ[MARK] = str(self.directory)
            # Cards of its own: what another run has in their memory is nobody's fault.
            os.environ.pop(LEDGER_VARIABLE, None)
            share_accounting(os.environ)
            lies.activate(self.run.patch, self.directory / LOG)
            arguments = [
                *("-n", "0", "-q", "--run-dir", str(self.here / "run"), "--basetemp", str(self.temporary)),
                *("--references", str(self.references), "-o", f"faulthandler_timeout={self.run.deadline:g}"),
                *("--rootdir", str(ROOT), "-c", str(ROOT / "pytest.ini")),
                *(() if self.run.localised else ("--no-localisation",)),
                *_asking_for(self.run.model),
            ]
            progress = _Progress(self.here / PROGRESS, self.directory / LOG)
            code = int(pytest.main([*arguments, *self.left], plugins=[progress]))
        except BaseException:  # nothing of this process may reach the code above the fork
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def ended(self) -> bool:
        """Whether the process has ended; kills one that has not said anything for too long."""
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            said = self.here / PROGRESS
            last = said.stat().st_mtime if said.exists() else self.attempt_began
            # The watchdog in the process comes first; it shows the stacks.
            if time.time() - last > self.run.deadline + 60:
                os.kill(self.pid, signal.SIGKILL)
            return False
        self.cpu += usage.ru_utime + usage.ru_stime
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # what it forked
        processes.signal_marked(MARK, str(self.directory), signal.SIGKILL)  # and what it started
        self._gather(os.waitstatus_to_exitcode(status))
        shutil.rmtree(self.temporary, ignore_errors=True)
        return True

    def _gather(self, code: int) -> None:
        events = [json.loads(line) for line in _lines(self.here / PROGRESS)]
        began = {event["nodeid"]: event["time"] for event in events if event["event"] == "began"}
        ended = {event["nodeid"]: event["time"] for event in events if event["event"] == "ended"}
        fired = {event["nodeid"]: tuple(event["fired"]) for event in events if event["event"] == "ended"}
        records = [json.loads(line) for line in _lines(self.here / "run" / FILE_NAME)]
        records = {record["nodeid"]: record for record in records if record["type"] == "test"}
        if not began:
            raise TrialError(
                f"the run {self.run.name} ended with exit code {code} before its first test. It said:\n{self._said()}"
            )
        for nodeid in list(self.left):
            if nodeid in began and nodeid in records:
                record = records[nodeid]
                phases = record.get("seconds") or {}
                seconds, called = sum(phases.values()), "call" in phases
                outcome, reason = record["outcome"], record["reason"]
            elif nodeid in began:
                seconds, called = time.time() - began[nodeid], True
                outcome, reason = self._how_it_died(code)
            else:
                continue
            after = ended.get(nodeid, time.time()) - self.began
            times = round(seconds, 2), round(after, 2)
            self.results.append(TestResult(nodeid, outcome, reason, *times, called, fired.get(nodeid, ())))
            self.left.remove(nodeid)

    def _how_it_died(self, code: int) -> tuple[str, str]:
        if "Timeout (" in self._said():
            return str(Outcome.TIMEOUT), f"did not end within {self.run.deadline:g} s"
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return str(Outcome.CRASH), f"the process ended by {how}"

    def _said(self) -> str:
        return (self.here / OUTPUT).read_text(errors="replace")[-6000:]

    def result(self) -> Ran:
        fired = _fired(self.directory / LOG).total()
        seconds = round(time.time() - self.began, 2)
        return Ran(self.run, tuple(self.results), fired, seconds, round(self.cpu, 2))


def execute(runs: Iterable[Run], directory: Path, references: Path, jobs: int) -> Iterator[Ran]:
    """Executes runs, ``jobs`` at a time, and yields each as it ends.

    Raises:
        TrialError: a run ended before its first test.
    """
    waiting, going = iter(runs), []
    exhausted = False
    try:
        while not exhausted or going:
            while not exhausted and len(going) < jobs:
                run = next(waiting, None)
                exhausted = run is None
                if run is not None:
                    going.append(_Going(run, directory / run.name, references))
            for one in [one for one in going if one.ended()]:
                if one.left:
                    one.start()
                    continue
                going.remove(one)
                yield one.result()
            time.sleep(0.02)
    finally:
        for one in going:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)
            processes.signal_marked(MARK, str(one.directory), signal.SIGKILL)


def chunks(tests: Sequence[str], count: int, by: Callable[[str], str] = str) -> list[list[str]]:
    """The tests in at most ``count`` parts of one size, about; those of files for which ``by`` is one stay together."""
    groups: dict[str, list[str]] = {}
    for test in tests:
        groups.setdefault(by(test.split("::")[0]), []).append(test)
    parts: list[list[str]] = [[] for _ in range(count)]
    for group in sorted(groups.values(), key=len, reverse=True):
        min(parts, key=len).extend(group)
    return [part for part in parts if part]


def _fired(log: Path) -> Counter[str]:
    """How often each fault has fired so far, over all processes of a run."""
    counts: Counter[str] = Counter()
    for line in map(json.loads, _lines(log)):
        if "fault" in line:
            counts[line["fault"]] += line["fired"]
    return counts


def _lines(file: Path) -> list[str]:
    if not file.exists():
        return []
    text = file.read_text(errors="replace")
    # A process that was killed may have left half a line.
    return text[: text.rfind("\n") + 1].splitlines()

"""Builds CANN's shared libraries from csrc/ into the cache, once per content of everything that decides the result."""

import errno
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from . import cache as store
from .errors import EmulatorError
from .missing import SOURCE as MISSING_SOURCE
from .missing import missing_operators
from .records import check_known, read_record, record_file
from .stack import Stack, find_stack
from .toolchain import COMPILE, LINK, Compiler, check_compiler, find_compiler, include_flags, torch_libraries

SOURCES = Path(__file__).parent / "csrc"
SHOWN_LINES = 60

Report = Callable[[str], None]


@dataclass(frozen=True)
class Library:
    """lib<name>.so: all *.cpp of a folder of csrc/, linked with `needs`. Without a folder it is empty."""

    name: str
    folder: str | None = None
    needs: tuple[str, ...] = ()


# torch_npu asks the loader for all of these by name; those without a folder it never calls in what is emulated.
LIBRARIES = (
    Library("ascendcl", "runtime", ("dl",)),
    Library("opapi", "operators", ("ascendcl", "torch_cpu", "c10")),
    Library("acl_op_compiler", "legacy", ("opapi", "ascendcl", "torch_cpu", "c10")),
    Library("hccl", "hccl", ("ascendcl", "torch_cpu", "c10")),
    Library("hcomm", "hcomm", ("hccl", "ascendcl")),
    Library("ge_runner"),
    Library("graph"),
    Library("acl_tdt_channel"),
)

# The system headers that this one includes take most of the time of a compilation, and are precompiled once.
PRECOMPILED = "operators/operator.h"

# The sentence in the folder that ASCEND_HOME_PATH names.
CANN_README = """\
These empty folders belong to the emulator of npu-conformance. torch_npu wants ASCEND_HOME_PATH and ASCEND_OPP_PATH to
name folders that exist; there is no CANN here, and nothing in this folder imitates one.
"""


@dataclass(frozen=True)
class Build:
    """A finished build."""

    folder: Path  # for LD_LIBRARY_PATH
    facts: dict  # build.json
    in_use: int  # a descriptor that keeps the build from being thrown away; closed when the process ends

    @property
    def cann(self) -> Path:
        """The folder that ASCEND_HOME_PATH names."""
        return self.folder / "cann"


@dataclass(frozen=True)
class Job:
    """One source file to compile."""

    source: str  # relative to csrc/
    key: str  # hash of all that decides the object file
    precompiled: bool  # whether it includes torch's headers


@dataclass(frozen=True)
class Plan:
    """All that decides the result of a build, and where the pieces go."""

    sources: dict[str, bytes]  # everything below csrc/, read at one moment
    stack: Stack
    compiler: Compiler
    cache: Path
    libraries: tuple[Library, ...]
    key: str
    jobs: tuple[Job, ...]
    prefix: str  # the header to precompile: "" where there is none
    prefix_key: str

    @property
    def folder(self) -> Path:
        """Where the finished build goes."""
        return self.cache / self.key

    def object_file(self, job: Job) -> Path:
        """Where the object file of a source goes."""
        return self.cache / "objects" / f"{job.key}.o"


def digest(*parts: object) -> str:
    """20 hexadecimal digits of the SHA-256 of the parts."""
    return hashlib.sha256("\0".join(map(repr, parts)).encode()).hexdigest()[:20]


def read_sources(folder: Path) -> dict[str, bytes]:
    """All C++ files below a folder, by their relative path."""
    files = sorted(path for suffix in ("*.cpp", "*.h") for path in folder.rglob(suffix))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def closure(sources: dict[str, bytes], name: str) -> list[str]:
    """The file and all files of the tree that it includes, directly or not."""
    found, todo = {name}, [name]
    while todo:
        current = todo.pop()
        for included in re.findall(rb'^\s*#\s*include\s*"([^"]+)"', sources[current], re.MULTILINE):
            path = os.path.normpath(os.path.join(os.path.dirname(current), included.decode()))
            if path in sources and path not in found:
                found.add(path)
                todo.append(path)
    return sorted(found)


def make_plan(
    stack: Stack,
    compiler: Compiler,
    cache: Path,
    source_folder: Path = SOURCES,
    libraries: tuple[Library, ...] = LIBRARIES,
    generated: Mapping[str, bytes] | None = None,
) -> Plan:
    """Reads the sources, adds what is generated, and computes every hash."""
    sources = {**read_sources(source_folder), **(generated or {})}
    common = digest(compiler.identity, COMPILE, LINK, stack.torch.build, stack.torch_npu.build)
    includes = re.findall(rb"^\s*#\s*include\s*<.*", sources.get(PRECOMPILED, b""), re.MULTILINE)
    prefix = b"\n".join(includes).decode() + "\n" if includes and compiler.is_gcc else ""
    jobs = []
    for name in sources:
        if name.endswith(".cpp"):
            files = closure(sources, name)
            key = digest(common, prefix, name, [(file, sources[file]) for file in files])
            jobs.append(Job(name, key, bool(prefix) and PRECOMPILED in files))
    return Plan(
        sources=sources,
        stack=stack,
        compiler=compiler,
        cache=cache,
        libraries=libraries,
        key=digest(common, libraries, CANN_README, sorted(sources.items())),
        jobs=tuple(jobs),
        prefix=prefix,
        # Unlike an object file, a precompiled header contains the paths of the headers.
        prefix_key=digest(common, prefix, include_flags(stack) if prefix else None),
    )


def ensure_built(report: Report, known_only: bool = True) -> Build:
    """Returns the build for the installed torch and torch_npu and the sources as they are, and makes it where needed.

    Args:
        report: Receives one line of progress at a time.
        known_only: Refuse a release of torch_npu whose call sites are not recorded.

    Raises:
        EmulatorError: Something is missing, or does not compile, or cannot be written.
    """
    stack = find_stack()
    if known_only:
        check_known(stack)
    generated = {}
    if record_file(stack.torch_npu.version).is_file():
        generated[MISSING_SOURCE] = missing_operators(read_record(stack.torch_npu.version)).encode()
    plan = make_plan(stack, find_compiler(), store.cache_folder(), generated=generated)
    return build(plan, report)


def build(plan: Plan, report: Report) -> Build:
    """Carries out the plan, unless a finished build is there already."""
    finished = open_build(plan)
    if finished:
        return finished
    check_compiler(plan.compiler)
    with store.build_lock(plan.cache, report):
        finished = open_build(plan)  # another process may have made it meanwhile
        if finished:
            return finished
        with store.writing(plan.cache):
            started = time.monotonic()
            work = store.work_folder(plan.cache)
            try:
                result = produce(plan, work, report)
                result.rename(plan.folder)
            finally:
                shutil.rmtree(work)
            finished = open_build(plan)
            if finished is None:
                raise EmulatorError(
                    f"{plan.folder} vanished as soon as it was built: is something else cleaning {plan.cache}?"
                )
            store.prune(plan.cache)
            report(f"built in {time.monotonic() - started:.0f} s: {plan.folder}")
            return finished


def open_build(plan: Plan) -> Build | None:
    """The finished build of the plan, marked as in use; None where there is none."""
    descriptor = store.use(plan.folder)
    return None if descriptor is None else Build(plan.folder, store.manifest(plan.folder), descriptor)


def produce(plan: Plan, work: Path, report: Report) -> Path:
    """Compiles what is not compiled yet, links, and returns the folder of the result, inside the work folder."""
    missing = [job for job in plan.jobs if not plan.object_file(job).is_file()]
    report(
        f"building for torch {plan.stack.torch.version} and torch_npu {plan.stack.torch_npu.version} "
        f"with {plan.compiler.identity}: {len(missing)} of {len(plan.jobs)} files to compile"
    )
    # The sources as they were when the hashes were computed: an edit during the build cannot get under the wrong hash.
    for name, content in plan.sources.items():
        path = work / "csrc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for folder in ("objects", "precompiled"):
        (plan.cache / folder).mkdir(exist_ok=True)
    compile_all(plan, work, missing, report)

    result = work / "result"
    for name in ("opp", "runtime", "compiler"):
        (result / "cann" / name).mkdir(parents=True)
    (result / "cann" / "README").write_text(CANN_README)
    for library in plan.libraries:
        link(plan, library, result)
    facts = {
        "key": plan.key,
        "torch": plan.stack.torch.version,
        "torch_npu": plan.stack.torch_npu.version,
        "compiler": plan.compiler.identity,
        "flags": COMPILE,
        "objects": [f"{job.key}.o" for job in plan.jobs] + ([plan.prefix_key] if plan.prefix else []),
        **describe(plan, result),
    }
    (result / "build.json").write_text(json.dumps(facts, indent=1))
    return result


def compile_all(plan: Plan, work: Path, missing: Sequence[Job], report: Report) -> None:
    """Compiles the files in parallel; those that need the precompiled header wait for it."""
    flags = [*COMPILE, *include_flags(plan.stack), "-I", str(work / "csrc")]
    prefix = plan.cache / "precompiled" / plan.prefix_key
    need_prefix = any(job.precompiled for job in missing) and not (prefix / "prefix.h.gch").is_file()
    total, done = len(missing) + need_prefix, 0

    def announce(what: str, started: float, output: str) -> None:
        nonlocal done
        done += 1
        report(f"[{done:2}/{total}] {what} {time.monotonic() - started:.1f} s")
        if output:
            report(output)

    def precompile() -> None:
        started, new = time.monotonic(), work / "prefix"
        new.mkdir()
        (new / "prefix.h").write_text(plan.prefix)
        output = run(plan, work, [*flags, "-x", "c++-header", new / "prefix.h", "-o", new / "prefix.h.gch"])
        shutil.rmtree(prefix, ignore_errors=True)
        new.rename(prefix)
        announce("torch's headers, precompiled", started, output)

    def compile_one(job: Job) -> None:
        started, new = time.monotonic(), work / f"{job.key}.o"
        include = ["-include", prefix / "prefix.h", "-Winvalid-pch"] if job.precompiled else []
        output = run(plan, work, [*flags, *include, "-c", work / "csrc" / job.source, "-o", new])
        new.replace(plan.object_file(job))
        announce(job.source, started, output)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        try:
            first: list[Future] = [pool.submit(precompile)] if need_prefix else []
            first += [pool.submit(compile_one, job) for job in missing if not job.precompiled]
            if need_prefix:
                first[0].result()
            jobs = first + [pool.submit(compile_one, job) for job in missing if job.precompiled]
            wait(jobs, return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(cancel_futures=True)
    failures = [job.exception() for job in jobs if not job.cancelled() and job.exception()]
    for failure in failures:
        if not isinstance(failure, EmulatorError):
            raise failure
    if failures:
        raise EmulatorError("\n\n".join(map(str, failures)))


def link(plan: Plan, library: Library, result: Path) -> None:
    """Links one library into the folder of the result."""
    file = f"lib{library.name}.so"
    objects = [
        plan.object_file(job) for job in plan.jobs if library.folder and job.source.startswith(f"{library.folder}/")
    ]
    inputs = objects or ["-x", "c++", "/dev/null"]
    names = library.needs if objects else ()
    needs = ["-L", result, "-L", torch_libraries(plan.stack), *(f"-l{name}" for name in names)]
    run(plan, result.parent, [*LINK, "-fPIC", f"-Wl,-soname,{file}", "-o", result / file, *inputs, *needs])


def run(plan: Plan, work: Path, arguments: Sequence[object]) -> str:
    """Runs the compiler and returns what it printed (warnings).

    Raises:
        EmulatorError: It failed; the message has the compiler's own lines.
    """
    command = [*plan.compiler.command, *map(str, arguments)]
    environment = {**os.environ, "TMPDIR": str(work), "LC_ALL": "C"}
    answer = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
    lines = (answer.stdout + answer.stderr).replace(str(work / "csrc"), str(SOURCES)).strip().splitlines()
    text = "\n".join(lines[:SHOWN_LINES])
    if len(lines) > SHOWN_LINES:
        text += f"\n... and {len(lines) - SHOWN_LINES} more lines"
    if answer.returncode == 0:
        return text
    if "No space left on device" in text:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    end = f"signal {-answer.returncode}" if answer.returncode < 0 else f"exit code {answer.returncode}"
    raise EmulatorError(f"The compiler failed ({end}):\n{text or shlex.join(command)}")


def describe(plan: Plan, result: Path) -> dict[str, list[str]]:
    """Loads what was built, every symbol resolved, and lists what it emulates.

    Raises:
        EmulatorError: A library cannot be loaded.
    """
    program = """
import ctypes, json, sys
def lines(library, function):
    if not hasattr(library, function):
        return []
    function = getattr(library, function)
    function.restype = ctypes.c_char_p
    return function().decode().splitlines()
load = lambda name: ctypes.CDLL(name, mode=2 | ctypes.RTLD_GLOBAL)  # 2: RTLD_NOW
libraries = {name: load(f"lib{name}.so") for name in sys.argv[1:]}
print(json.dumps({
    "operators": lines(libraries.get("opapi"), "npu_emulator_operators"),
    "graph_operators": lines(libraries.get("acl_op_compiler"), "npu_emulator_graph_operators"),
}))
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NPU_EMULATOR_")}
    environment["LD_LIBRARY_PATH"] = f"{result}:{torch_libraries(plan.stack)}"
    names = [library.name for library in plan.libraries]
    command = [sys.executable, "-I", "-S", "-c", program, *names]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment)
    if answer.returncode != 0:
        last = (answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1]
        raise EmulatorError(f"The libraries were built, but cannot be loaded: {last}")
    return {**json.loads(answer.stdout), "collectives": exported(result / "libhccl.so", "Hccl")}


def exported(library: Path, prefix: str) -> list[str]:
    """The functions of a library whose name begins with the prefix. `nm` comes with every compiler."""
    if not library.is_file():
        return []
    answer = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True)
    return sorted(word for word in answer.stdout.split() if word.startswith(prefix))

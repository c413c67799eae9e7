"""The emulator's build: what it compiles, what it keeps, what it says when something is missing.

Most tests build a tree of a few lines, laid out as the emulator's own, with the real compiler.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from emulator import build as builder
from emulator import cache as store
from emulator import missing
from emulator.build import Library, make_plan
from emulator.call_sites import CallSites
from emulator.errors import EmulatorError
from emulator.stack import find_stack
from emulator.toolchain import Compiler, find_compiler

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = (
    Library("ascendcl", "runtime"),
    Library("opapi", "operators", ("ascendcl",)),
    Library("hccl", "hccl", ("ascendcl",)),
    Library("graph"),
)
SOURCES = {
    "runtime/runtime.h": "int cards();\n",
    "runtime/runtime.cpp": '#include "runtime.h"\nint cards() { return 2; }\n',
    "operators/operator.h": '#include <vector>\n#include "../runtime/runtime.h"\n',
    "operators/registry.cpp": '#include "operator.h"\nextern "C" const char* npu_emulator_operators() '
    '{ return "aclnnAbs Elementwise (Tensor self, Output out)\\n"; }\n',
    "operators/unary.cpp": '#include "operator.h"\nextern "C" int aclnnAbs() '
    "{ return cards() + std::vector<int>{1}[0]; }\n",
    "hccl/hccl.cpp": '#include "../runtime/runtime.h"\nextern "C" int HcclSend() { return cards(); }\n',
}


@pytest.fixture
def tree(tmp_path):
    """The folder of the small source tree."""
    folder = tmp_path / "csrc"
    for name, text in SOURCES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def logged_compiler(tmp_path):
    """A compiler that notes its calls in compiled.log and, before it compiles a file, does what `before` says."""

    def make(before: str = "") -> Compiler:
        script = tmp_path / "c++"
        log = tmp_path / "compiled.log"
        script.write_text(
            f'#!/bin/sh\necho "$@" >> {log}\ncase " $* " in *" -c "*) {before or ":"};; esac\nexec g++ "$@"\n'
        )
        script.chmod(0o755)
        return replace(find_compiler(), command=(str(script),))

    return make


@pytest.fixture
def planned(tree, tmp_path, logged_compiler):
    """A function that plans a build of the small tree as it is now."""

    def plan(before: str = "", **changes):
        return replace(make_plan(find_stack(), logged_compiler(before), tmp_path / "cache", tree, LIBRARIES), **changes)

    return plan


@pytest.fixture
def compiled(tmp_path):
    """A function that returns the names of the sources compiled since it was last called."""

    def names() -> list[str]:
        log = tmp_path / "compiled.log"
        commands = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        log.unlink(missing_ok=True)
        return sorted(Path(command[command.index("-c") + 1]).name for command in commands if "-c" in command)

    return names


def ignore(line: str) -> None:
    """Progress that no one reads."""


def call(build, library: str, function: str) -> int:
    """Calls a function of a built library in a process of its own."""
    program = "import ctypes, sys; print(getattr(ctypes.CDLL(sys.argv[1]), sys.argv[2])())"
    command = [sys.executable, "-c", program, build.folder / library, function]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(build.folder)}
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


# ---- what is built ----


def test_the_libraries_are_linked_from_their_folders(planned):
    """Each library holds the sources of its folder, finds the others beside it, and is listed with what it emulates."""
    build = builder.build(planned(), ignore)

    assert call(build, "libopapi.so", "aclnnAbs") == 3
    assert build.facts["operators"] == ["aclnnAbs Elementwise (Tensor self, Output out)"]
    assert build.facts["collectives"] == ["HcclSend"]
    ctypes.CDLL(str(build.folder / "libgraph.so"))  # without a folder, and empty


def test_the_folders_of_ascend_home_path_are_empty_and_explained(planned):
    """torch_npu finds the folders that it insists on, empty, under a README that says whose they are."""
    cann = builder.build(planned(), ignore).cann

    assert "belong to the emulator" in (cann / "README").read_text()
    for name in ("opp", "runtime", "compiler"):
        assert list((cann / name).iterdir()) == []


def test_a_missing_operator_says_what_to_do(planned, tree):
    """An operator that torch_npu calls and no family defines fails with its name and where to add it.

    One that a family defines is not disturbed; one that torch_npu looks for before it calls it stays absent.
    """
    (tree / "runtime/emulator.h").write_text(
        "#include <string>\nnamespace npu_emulator { void set_error(const std::string& message); }\n"
    )
    (tree / "runtime/runtime.cpp").write_text(
        '#include <cstdio>\n#include "emulator.h"\nint cards() { return 2; }\n'
        "void npu_emulator::set_error(const std::string& message) { fputs(message.c_str(), stderr); }\n"
    )
    calls = CallSites({"aclnnAbs": {()}, "aclnnGone": {()}, "aclnnProbed": {()}}, frozenset({"aclnnProbed"}))
    generated = {missing.SOURCE: missing.missing_operators(calls).encode()}
    plan = make_plan(find_stack(), find_compiler(), planned().cache, tree, LIBRARIES, generated)

    build = builder.build(plan, ignore)
    symbols = builder.exported(build.folder / "libopapi.so", "aclnn")

    assert symbols == ["aclnnAbs", "aclnnAbsGetWorkspaceSize", "aclnnGone", "aclnnGoneGetWorkspaceSize"]
    assert call(build, "libopapi.so", "aclnnAbs") == 3
    program = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).aclnnGoneGetWorkspaceSize()"
    run = subprocess.run(
        [sys.executable, "-c", program, build.folder / "libopapi.so"],
        env={**os.environ, "LD_LIBRARY_PATH": str(build.folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr.startswith("aclnnGone is not emulated. Add it to the family that it belongs to")


def test_a_finished_build_is_opened_without_the_compiler(planned, compiled):
    """The second build of the same sources starts no compiler."""
    first = builder.build(planned(), ignore)
    compiled()

    second = builder.build(planned(), ignore)

    assert second.folder == first.folder
    assert compiled() == []


def test_an_edit_recompiles_one_file(planned, tree, compiled):
    """After an edit of one family only that family is compiled again."""
    first = builder.build(planned(), ignore)
    compiled()

    (tree / "operators/unary.cpp").write_text('extern "C" int aclnnAbs() { return 7; }\n')
    second = builder.build(planned(), ignore)

    assert compiled() == ["unary.cpp"]
    assert (call(first, "libopapi.so", "aclnnAbs"), call(second, "libopapi.so", "aclnnAbs")) == (3, 7)


def test_an_edit_of_a_header_recompiles_what_includes_it(planned, tree, compiled):
    """A header counts for the files that include it, directly or through another header."""
    builder.build(planned(), ignore)
    compiled()

    (tree / "operators/operator.h").write_text(SOURCES["operators/operator.h"] + "// edited\n")
    builder.build(planned(), ignore)

    assert compiled() == ["registry.cpp", "unary.cpp"]


def test_the_system_headers_of_operators_are_precompiled_once(planned, tree, tmp_path):
    """The headers that operator.h includes are compiled once, whatever is edited."""
    builder.build(planned(), ignore)
    first = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/precompiled/*/prefix.h.gch")}

    (tree / "operators/unary.cpp").write_text('#include "operator.h"\nextern "C" int aclnnAbs() { return cards(); }\n')
    builder.build(planned(), ignore)

    assert len(first) == 1
    assert first == {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/precompiled/*/prefix.h.gch")}


def test_an_edit_during_the_build_does_not_get_into_it(planned, tree):
    """What is built is what was hashed: an edit while the compiler runs belongs to the next build."""
    edited = tree / "operators/unary.cpp"
    during = builder.build(planned(f"sed -i s/'{{1}}'/'{{40}}'/ {edited}"), ignore)
    after = builder.build(planned(), ignore)

    assert call(during, "libopapi.so", "aclnnAbs") == 3
    assert call(after, "libopapi.so", "aclnnAbs") == 42


def test_a_real_edit_of_one_family_recompiles_one_file(built, tmp_path):
    """In the emulator's own sources, too, an edit of one family compiles one file, and the libraries load."""
    real = store.cache_folder()
    for kind in ("objects", "precompiled"):
        shutil.copytree(real / kind, tmp_path / "cache" / kind, copy_function=os.symlink)
    shutil.copytree(builder.SOURCES, tmp_path / "csrc")
    with (tmp_path / "csrc/operators/arithmetic.cpp").open("a") as file:
        file.write("// edited\n")
    lines = []
    plan = make_plan(find_stack(), find_compiler(), tmp_path / "cache", tmp_path / "csrc")
    # It contains the paths of this environment, and the objects may have been made in another one.
    headers = [] if (tmp_path / "cache/precompiled" / plan.prefix_key).is_dir() else ["torch's"]

    build = builder.build(plan, lines.append)

    compiled = [line.split("] ")[1].split()[0] for line in lines if line.startswith("[")]
    assert compiled == [*headers, "operators/arithmetic.cpp"]
    assert any(line.startswith("aclnnAdd ") for line in build.facts["operators"])


# ---- the hash ----


@pytest.mark.parametrize(
    "change",
    [
        lambda stack, compiler: (replace(stack, torch=replace(stack.torch, build="another torch")), compiler),
        lambda stack, compiler: (replace(stack, torch_npu=replace(stack.torch_npu, build="another release")), compiler),
        lambda stack, compiler: (stack, replace(compiler, identity="another compiler")),
    ],
    ids=["torch", "torch_npu", "compiler"],
)
def test_the_hash_covers_what_the_result_depends_on(tree, tmp_path, change):
    """Another torch, torch_npu or compiler is another build, down to every object file."""
    stack, compiler = find_stack(), find_compiler()
    before = make_plan(stack, compiler, tmp_path, tree, LIBRARIES)
    after = make_plan(*change(stack, compiler), tmp_path, tree, LIBRARIES)

    assert before.key != after.key
    assert not {job.key for job in before.jobs} & {job.key for job in after.jobs}


def test_the_hash_does_not_depend_on_where_the_sources_are(tree, tmp_path):
    """Two checkouts of the same sources share one build."""
    shutil.copytree(tree, tmp_path / "elsewhere")
    plans = [
        make_plan(find_stack(), find_compiler(), tmp_path, folder, LIBRARIES)
        for folder in (tree, tmp_path / "elsewhere")
    ]

    assert plans[0].key == plans[1].key
    assert plans[0].jobs == plans[1].jobs


# ---- several at once, interrupted, thrown away ----

PROGRAM = """
import sys
from pathlib import Path
from dataclasses import replace
from emulator import build as builder
from emulator.build import Library, make_plan
from emulator.stack import find_stack
from emulator.toolchain import find_compiler
from meta_tests.emulator.test_build import LIBRARIES

tree, cache, compiler = map(Path, sys.argv[1:])
plan = make_plan(find_stack(), replace(find_compiler(), command=(str(compiler),)), cache, tree, LIBRARIES)
builder.build(plan, lambda line: print(line, flush=True))
"""


def start(planned, tree, before, said):
    """Starts a process that builds the small tree; what it says is appended to the file ``said``."""
    plan = planned(before)
    command = [sys.executable, "-c", PROGRAM, tree, plan.cache, plan.compiler.command[0]]
    with said.open("a") as output:
        return subprocess.Popen(command, cwd=ROOT, stdout=output, start_new_session=True)


def wait_until(condition) -> None:
    """Waits until something is so; fails where it does not become so."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def test_two_processes_that_start_together_build_once(planned, tree, tmp_path, compiled):
    """Of two builders one compiles; the other waits, says so, and uses the result."""
    said, go_on = tmp_path / "said", tmp_path / "go-on"
    waiting = "another process is building; waiting for it"
    processes = [start(planned, tree, f"while [ ! -e {go_on} ]; do sleep 0.02; done", said) for _ in range(2)]
    wait_until(lambda: waiting in said.read_text())
    go_on.touch()

    assert [process.wait(120) for process in processes] == [0, 0]
    assert compiled() == ["hccl.cpp", "registry.cpp", "runtime.cpp", "unary.cpp"]
    assert said.read_text().count(waiting) == 1


def test_a_killed_build_leaves_nothing_that_counts(planned, tree, tmp_path, compiled):
    """What a killed build leaves behind is not taken for a build, and the next one clears it away."""
    process = start(planned, tree, "sleep 600", tmp_path / "said")
    wait_until(compiled)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob("cache/tmp-*")) != []
    assert builder.open_build(planned()) is None

    build = builder.build(planned(), ignore)

    assert call(build, "libopapi.so", "aclnnAbs") == 3
    assert list(tmp_path.glob("cache/tmp-*")) == []


def test_what_compiled_before_an_error_is_kept(planned, tree, compiled):
    """After a file has been put right, only what had not been compiled yet is compiled."""
    good = (tree / "hccl/hccl.cpp").read_text()
    (tree / "hccl/hccl.cpp").write_text("int broken() { return missing; }\n")
    with pytest.raises(EmulatorError):
        builder.build(planned(), ignore)
    first = compiled()

    (tree / "hccl/hccl.cpp").write_text(good)
    builder.build(planned(), ignore)

    assert sorted({*first, *compiled()}) == ["hccl.cpp", "registry.cpp", "runtime.cpp", "unary.cpp"]
    assert first.count("hccl.cpp") == 1


def made(cache: Path, name: str, age: float, objects: list[str]) -> Path:
    """A finished build of that age in hours, with its objects."""
    folder = cache / name
    folder.mkdir(parents=True)
    (folder / "build.json").write_text(json.dumps({"objects": objects}))
    os.utime(folder, (time.time() - age * 3600,) * 2)
    for name in objects:
        (cache / "objects").mkdir(exist_ok=True)
        (cache / "objects" / name).touch()
    return folder


def test_old_builds_and_their_objects_are_thrown_away(tmp_path):
    """Only the builds last used stay, with the objects that they are made of."""
    builds = [made(tmp_path, f"build{age}", age, ["shared.o", f"{age}.o"]) for age in range(4)]

    store.prune(tmp_path, keep=2)

    assert [build.exists() for build in builds] == [True, True, False, False]
    assert sorted(path.name for path in tmp_path.glob("objects/*")) == ["0.o", "1.o", "shared.o"]
    assert list(tmp_path.glob("tmp-*")) == []


def test_a_build_in_use_is_not_thrown_away(tmp_path):
    """A build that a running command uses stays, however old it is; it goes once the command has ended."""
    old = made(tmp_path, "old", 100, ["old.o"])
    descriptor = store.use(old)
    os.utime(old, (0, 0))
    made(tmp_path, "new", 0, ["new.o"])

    store.prune(tmp_path, keep=1)
    assert (old / "build.json").exists()

    os.close(descriptor)
    store.prune(tmp_path, keep=1)
    assert not old.exists()


# ---- messages ----


def test_a_compile_error_shows_the_compilers_lines(planned, tree):
    """The message has the compiler's own lines, with the path of the file to edit."""
    (tree / "operators/unary.cpp").write_text("int broken() {\n    return missing;\n}\n")

    with pytest.raises(
        EmulatorError, match=r"csrc/operators/unary.cpp:2:12: error: .*missing.* not declared"
    ) as caught:
        builder.build(planned(), ignore)

    assert "tmp-" not in str(caught.value)


def test_a_function_that_no_library_has_is_refused(planned, tree):
    """A missing function fails when the library is linked, not when a test first calls it."""
    (tree / "operators/unary.cpp").write_text('int absent(); extern "C" int aclnnAbs() { return absent(); }\n')

    with pytest.raises(EmulatorError, match="undefined reference to `absent"):
        builder.build(planned(), ignore)


def test_a_full_disk_is_said_to_be_full(planned):
    """Where the compiler runs out of space, the message says where, and how to choose another place."""
    full = "echo 'fatal error: cannot write: No space left on device' >&2; exit 1"

    with pytest.raises(EmulatorError, match=r"cannot be written to .*cache: No space left.*NPU_EMULATOR_CACHE="):
        builder.build(planned(full), ignore)


def test_a_cache_that_cannot_be_written(planned, tmp_path):
    """Where the cache is no folder that can be made, the message says so, and how to choose another place."""
    (tmp_path / "file").touch()

    with pytest.raises(EmulatorError, match=r"cannot be written to .*file/cache: Not a directory.*NPU_EMULATOR_CACHE="):
        builder.build(planned(cache=tmp_path / "file" / "cache"), ignore)


def test_where_the_cache_is(monkeypatch, tmp_path):
    """NPU_EMULATOR_CACHE decides, then XDG_CACHE_HOME, then the home folder; a user without one is told what to do."""
    monkeypatch.setenv("NPU_EMULATOR_CACHE", str(tmp_path))
    assert store.cache_folder() == tmp_path
    monkeypatch.delenv("NPU_EMULATOR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert store.cache_folder() == Path("/xdg/npu-conformance/emulator")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/someone")
    assert store.cache_folder() == Path("/home/someone/.cache/npu-conformance/emulator")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(EmulatorError, match="NPU_EMULATOR_CACHE="):
        store.cache_folder()

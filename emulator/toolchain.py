"""The C++ compiler: which one, whether it is new enough, and its flags."""

import os
import platform
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .errors import EmulatorError
from .stack import Stack

INSTALL = "On Debian and Ubuntu: sudo apt install g++"

# _GLIBCXX_USE_CXX11_ABI=1 is the ABI of all wheels of torch since 2.7.
COMPILE = ["-std=c++20", "-fPIC", "-O1", "-pthread", "-Wall", "-D_GLIBCXX_USE_CXX11_ABI=1"]

# A function that no library defines is to fail here, not at its first use. No rpath: the libraries find each other in
# LD_LIBRARY_PATH, and torch's are loaded before torch_npu loads these.
LINK = ["-shared", "-pthread", "-Wl,-z,defs"]


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler."""

    command: tuple[str, ...]  # as in CXX, for example ("ccache", "g++")
    identity: str  # version and target: what must be equal for two builds to be the same
    is_gcc: bool


def find_compiler() -> Compiler:
    """Returns the compiler that CXX names, else g++, c++ or clang++, whichever is found first.

    Raises:
        EmulatorError: There is none, or it does not start.
    """
    chosen = os.environ.get("CXX")
    candidates = [chosen] if chosen else ["g++", "c++", "clang++"]
    command = next((words for words in map(shlex.split, candidates) if words and shutil.which(words[0])), None)
    if command is None:
        found = f"CXX={chosen} is not a program" if chosen else "none of g++, c++ and clang++ is on PATH"
        raise EmulatorError(f"The emulator is built from C++ sources and needs a compiler; {found}. {INSTALL}")
    try:
        answer = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmulatorError(
            f"The compiler {shlex.join(command)} does not answer --version: {error}. {INSTALL}"
        ) from error
    return Compiler(
        command=tuple(command),
        identity=f"{answer.splitlines()[0] if answer else command[0]}, {platform.machine()}",
        is_gcc="Free Software Foundation" in answer,
    )


def check_compiler(compiler: Compiler) -> None:
    """Raises EmulatorError where the compiler does not know C++20."""
    probe = "#if __cplusplus < 202002L\n#error older than C++20\n#endif\n#include <bit>\nint main() {}\n"
    command = [*compiler.command, "-std=c++20", "-x", "c++", "-fsyntax-only", "-"]
    answer = subprocess.run(command, input=probe, capture_output=True, text=True)
    if answer.returncode != 0:
        reason = next(
            (line for line in answer.stderr.splitlines() if "error" in line), f"exit code {answer.returncode}"
        )
        raise EmulatorError(
            f"A C++20 compiler is needed (g++ 11 or clang 14, or later); found {compiler.identity}: {reason.strip()}\n"
            "Install a newer one and choose it, for example: CXX=g++-12 python -m emulator --build"
        )


def include_flags(stack: Stack) -> list[str]:
    """Where the headers of torch and those that the torch_npu wheel carries are.

    Raises:
        EmulatorError: They are not there.
    """
    torch = stack.torch.folder / "include"
    cann = stack.torch_npu.folder / "include"
    folders = [torch, torch / "torch/csrc/api/include", cann, cann / "third_party/acl/inc"]
    if not (torch / "ATen/ATen.h").is_file():
        raise EmulatorError(
            f"torch {stack.torch.version} in {stack.torch.folder} has no C++ headers (include/ATen/ATen.h), with which "
            "the emulator is built. Reinstall it: pip install --force-reinstall -r requirements-emulated.txt"
        )
    return [word for folder in folders for word in ("-isystem", str(folder))]


def torch_libraries(stack: Stack) -> Path:
    """The folder of libtorch_cpu.so and libc10.so."""
    return stack.torch.folder / "lib"

"""What `python -m emulator` says where the machine lacks something: one clear message, no traceback, a non-zero exit.

Each test runs it with a site-packages of its own, in which torch and torch_npu are no more than what is looked at.
"""

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Installation:
    """A site-packages folder with the emulator's own dependencies, and a folder of programs."""

    site: Path
    programs: Path

    def package(self, name: str, version: str, needs: str = "") -> Path:
        """Puts a package there that has a version.py, and metadata where `needs` names a requirement."""
        folder = self.site / name
        folder.mkdir()
        (folder / "version.py").write_text(f"__version__ = '{version}'\n")
        if needs:
            metadata = self.site / f"{name}-{version}.dist-info"
            metadata.mkdir()
            (metadata / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: {needs}\n"
            )
        return folder

    def pair(self, torch: str = "2.13.0+cpu", torch_npu: str = "2.13.0", needs: str = "torch==2.13.0.*") -> None:
        """Puts torch and torch_npu there."""
        self.package("torch", torch)
        self.package("torch_npu", torch_npu, needs=needs)

    def program(self, name: str, script: str) -> None:
        """Puts a program on PATH."""
        (self.programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.programs / name).chmod(0o755)

    def emulator(self, *arguments: str, code: str = "", **environment: str) -> subprocess.CompletedProcess:
        """Runs `python -m emulator`, or `code` in its place, in this installation."""
        clean = {"PATH": str(self.programs), "PYTHONPATH": f"{ROOT}:{self.site}", "HOME": str(self.site)}
        command = ["-c", code] if code else ["-m", "emulator", *arguments]
        return subprocess.run(
            [sys.executable, "-S", *command],
            env={**clean, **environment},
            capture_output=True,
            text=True,
            cwd=self.site,
        )


@pytest.fixture
def installation(tmp_path):
    """An installation without torch, torch_npu and compiler."""
    site, programs = tmp_path / "site", tmp_path / "programs"
    site.mkdir()
    programs.mkdir()
    for name in ("filelock", "packaging"):
        (site / name).symlink_to(Path(importlib.util.find_spec(name).origin).parent)
    return Installation(site, programs)


def refused(run: subprocess.CompletedProcess, *expected: str, code: int = 1) -> None:
    """The run ended with this exit code and one message that has the expected parts."""
    assert run.returncode == code, run.stderr
    assert "Traceback" not in run.stderr
    assert run.stderr.count("emulator: ") == 1
    for part in expected:
        assert part in run.stderr


def test_without_torch(installation):
    """Without torch the message names the interpreter and the file to install from."""
    refused(installation.emulator("true"), f"torch is not installed for {sys.executable}", "requirements-emulated.txt")


def test_without_torch_npu(installation):
    """Without torch_npu the message says so."""
    installation.package("torch", "2.13.0")

    refused(installation.emulator("true"), "torch_npu is not installed", "requirements-emulated.txt")


def test_torch_that_does_not_belong_to_torch_npu(installation):
    """A torch other than torch_npu's metadata asks for is refused with both versions."""
    installation.pair(torch="2.12.1+cpu")

    refused(installation.emulator("true"), "torch 2.12.1+cpu and torch_npu 2.13.0 do not belong", "torch==2.13.0.*")


def test_another_build_of_the_torch_that_belongs(installation):
    """A torch of the right version belongs to torch_npu however it was built, whatever build the metadata names."""
    installation.pair(torch="2.13.0+cu130", needs="torch==2.13.0+cpu")

    refused(installation.emulator("true"), "needs a compiler")


def test_torch_for_cuda(installation):
    """A torch that was built for CUDA is refused before torch_npu ends the process beside it, with what to install."""
    installation.package("torch", "2.13.0+cu130", needs="nvidia-nccl-cu13==2.29.7; platform_system == 'Linux'")
    installation.package("torch_npu", "2.13.0", needs="torch==2.13.0.*")

    refused(
        installation.emulator("true"),
        "torch 2.13.0+cu130 is a build for CUDA",
        "pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu",
    )


def test_torch_that_does_not_belong_to_torch_npu_without_metadata(installation):
    """Where torch_npu has no metadata the first two parts of the versions must agree."""
    installation.package("torch", "2.12.0")
    installation.package("torch_npu", "2.13.0")

    refused(installation.emulator("true"), "torch_npu 2.13.0 needs torch 2.13")


def test_an_unknown_torch_npu(installation):
    """A release that the emulator does not know is refused with the reason, the known ones and what to do."""
    installation.pair(torch="2.13.0", torch_npu="2.13.0.post9")

    refused(
        installation.emulator("true"),
        "does not know torch_npu 2.13.0.post9; it knows ",
        "2.13.0. The",
        "arguments of operators shift",
        "--check-arguments CHECKOUT --record",
    )


def test_a_local_build_of_a_known_torch_npu(installation):
    """A local part of the version does not make a release unknown."""
    installation.pair(torch_npu="2.13.0+gitabcdef")

    refused(installation.emulator("true"), "needs a compiler")


def test_a_folder_that_shadows_torch(installation):
    """A folder named torch in the current one is told from the package."""
    (installation.site / "torch").mkdir()

    refused(installation.emulator("true"), "shadows the package torch")


def test_without_a_compiler(installation):
    """Without a compiler the message says what to install on Debian and Ubuntu."""
    installation.pair()

    refused(installation.emulator("--build"), "none of g++, c++ and clang++ is on PATH", "sudo apt install g++")


def test_a_compiler_that_is_not_there(installation):
    """A wrong CXX is named."""
    installation.pair()

    refused(installation.emulator("--build", CXX="g++-99 -m64"), "CXX=g++-99 -m64 is not a program", "apt install")


def test_a_broken_compiler(installation):
    """A compiler that does not even say its version is named."""
    installation.pair()
    installation.program("g++", "exit 3")

    refused(installation.emulator("--build"), "g++ does not answer --version")


def test_an_old_compiler(installation):
    """A compiler without C++20 is refused with its version, its own words and a way to choose another."""
    installation.pair()
    installation.program(
        "g++",
        """[ "$1" = --version ] && { echo 'g++ (Ubuntu 9.4.0) 9.4.0'; exit; }
        echo "g++: error: unrecognized command line option '-std=c++20'" >&2; exit 1""",
    )

    refused(
        installation.emulator("--build"),
        "C++20 compiler is needed (g++ 11 or clang 14, or later)",
        "9.4.0",
        "unrecognized command line option '-std=c++20'",
        "CXX=",
    )


def test_torch_without_headers(installation):
    """A torch without its C++ headers is told from one that is not there."""
    installation.pair()
    installation.program("g++", "echo 'g++ 12, Free Software Foundation'")

    refused(installation.emulator("--build"), "has no C++ headers (include/ATen/ATen.h)", "--force-reinstall")


def test_another_system_than_linux(installation):
    """On another system the message says what the emulator needs."""
    code = "import sys; sys.platform = 'darwin'; from emulator.__main__ import main; sys.exit(main(['true']))"

    refused(installation.emulator(code=code), "needs Linux on x86-64 or aarch64")


def test_nothing_is_written_where_something_is_missing(installation, tmp_path):
    """A refused build leaves no cache folder behind."""
    installation.pair()
    installation.emulator("--build", NPU_EMULATOR_CACHE=str(tmp_path / "cache"))

    assert not os.path.exists(tmp_path / "cache")

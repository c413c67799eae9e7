"""The installed torch and torch_npu, found without importing them: the import loads torch_npu, which needs CANN."""

import importlib.metadata
import importlib.util
import platform
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from .errors import EmulatorError

NOT_BESIDE_CUDA = (2, 12)  # torch_npu from here on; observed with 2.12.0.post3 and 2.13.0, not with 2.9.0


@dataclass(frozen=True)
class Package:
    """An installed Python package: its version with the local part ("2.13.0+cpu"), its folder, and its version.py."""

    name: str
    version: str
    folder: Path
    build: str  # the text of version.py, which also names the commit the package was built from


@dataclass(frozen=True)
class Stack:
    """The pair of packages that the emulator is built for."""

    torch: Package
    torch_npu: Package


def find_package(name: str, advice: str) -> Package:
    """Finds an installed package and reads its version.py.

    Raises:
        EmulatorError: The package is not there, or has no version.py.
    """
    spec = importlib.util.find_spec(name)
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders:
        raise EmulatorError(f"{name} is not installed for {sys.executable}. {advice}")
    file = Path(folders[0], "version.py")
    text = file.read_text() if file.is_file() else ""
    version = re.search(r"^__version__\s*=\s*['\"]([^'\"]+)", text, re.MULTILINE)
    if not version:
        raise EmulatorError(
            f"{folders[0]} shadows the package {name}: it has no version.py. Start the command from another folder."
        )
    return Package(name, version[1], Path(folders[0]), text)


def find_stack() -> Stack:
    """Finds torch and torch_npu and checks that they belong together.

    Raises:
        EmulatorError: Not Linux, one of the two is missing, or torch_npu asks for another torch.
    """
    if sys.platform != "linux":
        raise EmulatorError(
            f"The emulator needs Linux on x86-64 or aarch64, as torch_npu does; this is {platform.system()}. "
            "A Linux container or virtual machine will do."
        )
    advice = "The pinned pair: pip install -r requirements-emulated.txt"
    stack = Stack(find_package("torch", advice), find_package("torch_npu", advice))
    check_pair(stack, torch_needed_by("torch_npu"))
    check_build(stack, needed_by("torch"))
    return stack


def needed_by(distribution: str) -> list[Requirement]:
    """What the wheel's metadata asks for, as it applies to this machine."""
    try:
        wanted = map(Requirement, importlib.metadata.requires(distribution) or [])
    except importlib.metadata.PackageNotFoundError:  # a source tree on the path
        return []
    return [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]


def torch_needed_by(distribution: str) -> Requirement | None:
    """What the wheel's metadata asks of torch, for example `torch==2.13.0.*`."""
    return next((requirement for requirement in needed_by(distribution) if requirement.name == "torch"), None)


def check_build(stack: Stack, needed: Iterable[Requirement]) -> None:
    """Raises EmulatorError where torch is a build for CUDA, beside which torch_npu ends the process."""
    beside_cuda = Version(stack.torch_npu.version).release < NOT_BESIDE_CUDA
    if beside_cuda or not any(requirement.name.startswith("nvidia-") for requirement in needed):
        return
    release = Version(stack.torch_npu.version).base_version
    raise EmulatorError(
        f"torch {stack.torch.version} is a build for CUDA, beside which torch_npu {stack.torch_npu.version} cannot be "
        "loaded (both register the same options of the allocator: Duplicated key). Install a build for the CPU: "
        f"pip install torch=={release} --index-url https://download.pytorch.org/whl/cpu"
    )


def check_pair(stack: Stack, needed: Requirement | None) -> None:
    """Raises EmulatorError where this torch is not the one that torch_npu was built for.

    Without metadata the first two parts of the versions must agree, as they do in all releases of torch_npu. How torch
    was built ("2.9.0+cpu", which some releases of torch_npu ask for on x86-64) changes none of its interfaces.
    """
    torch, torch_npu = Version(stack.torch.version), Version(stack.torch_npu.version)
    if needed and str(needed.specifier):
        wanted = SpecifierSet(re.sub(r"\+[a-z0-9.]+", "", str(needed.specifier)))
        fits, wish = wanted.contains(torch.public, prereleases=True), str(needed)
    else:
        fits, wish = torch.release[:2] == torch_npu.release[:2], f"torch {torch_npu.major}.{torch_npu.minor}"
    if not fits:
        raise EmulatorError(
            f"torch {torch} and torch_npu {torch_npu} do not belong together: torch_npu {torch_npu} needs {wish}. "
            f"Install a pair: pip install -r requirements-emulated.txt, or pip install torch=={torch_npu.base_version}"
        )

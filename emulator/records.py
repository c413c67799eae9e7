"""The releases of torch_npu that the emulator knows: of each, how it calls the operators (recorded_arguments/)."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from packaging.version import Version

from .call_sites import CallSites, Form, written
from .errors import EmulatorError
from .stack import Stack

RECORDS = Path(__file__).parent / "recorded_arguments"
ONLY_IN_WHEEL = "# Only in the wheel: "


def record_file(version: str) -> Path:
    """Where the call sites of a release of torch_npu are recorded. A local part of the version does not count."""
    return RECORDS / f"torch_npu-{Version(version).public}.txt"


def known_versions() -> list[str]:
    """The releases of torch_npu whose call sites are recorded: those that the emulator knows."""
    versions = [path.stem.removeprefix("torch_npu-") for path in RECORDS.glob("torch_npu-*.txt")]
    return sorted(versions, key=Version)


def check_known(stack: Stack) -> None:
    """Raises EmulatorError where the installed torch_npu is none of those that the emulator knows."""
    version = stack.torch_npu.version
    if not record_file(version).is_file():
        raise EmulatorError(
            f"The emulator does not know torch_npu {version}; it knows {', '.join(known_versions()) or 'none'}. The "
            "arguments of operators shift between releases, and a shifted argument is read as something else without "
            f"an error. Install a known release (pip install -r requirements-emulated.txt), or make {version} known: "
            "check out its sources (Ascend/pytorch with its submodule op-plugin, at that release), run\n"
            "    python -m emulator --check-arguments CHECKOUT --record\n"
            "and put right the operators that it reports. emulator/README.md says more."
        )


def read_record(version: str) -> CallSites:
    """The recorded call sites of a known release."""
    forms: dict[str, set[Form]] = {}
    probed = set()
    for line in record_file(version).read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        name, form, mark = re.fullmatch(r"(\w+)\((.*)\)( probed)?", line).groups()
        forms.setdefault(name, set()).add(tuple(form.split(", ")) if form else ())
        if mark:
            probed.add(name)
    return CallSites(forms, frozenset(probed))


def names_elsewhere(version: str) -> set[str]:
    """The operators that known releases other than this one call, or whose names their wheels have."""
    others = [record_file(other) for other in known_versions() if record_file(other) != record_file(version)]
    called = {name for file in others for name in re.findall(r"^\w+(?=\()", file.read_text(), re.MULTILINE)}
    lines = [line for file in others for line in file.read_text().splitlines() if line.startswith(ONLY_IN_WHEEL)]
    return called | {name for line in lines for name in line.removeprefix(ONLY_IN_WHEEL).split(", ")}


def write_record(version: str, calls: CallSites, sources: Sequence[str], in_wheel: Collection[str] = ()) -> Path:
    """Records the call sites of a release, which makes it known. Returns the file.

    Args:
        version: of torch_npu.
        calls: found in its sources.
        sources: their names and commits.
        in_wheel: the names of operators in its wheel, some of which the sources may not call.
    """
    only_in_wheel = sorted(set(in_wheel) - set(calls.forms))
    header = [
        f"# What torch_npu {version} passes to each operator, extracted from its sources by",
        "#     python -m emulator --check-arguments CHECKOUT ... --record",
        "# An operator with two lines is called in two ways; ? is a type that the source does not say plainly.",
        "# probed: torch_npu looks whether the operator is there, and goes another way without it.",
        *(f"# Source: {source}" for source in sources),
        *([ONLY_IN_WHEEL + ", ".join(only_in_wheel)] if only_in_wheel else []),
    ]
    lines = [
        name + written(form) + (" probed" if name in calls.probed else "")
        for name, forms in sorted(calls.forms.items())
        for form in sorted(forms)
    ]
    file = record_file(version)
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join([*header, *lines]) + "\n")
    return file

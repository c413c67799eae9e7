"""Checks the operators' argument lists against torch_npu: nothing else would notice that a release has shifted one.

Two sources of truth: the names in the installed wheel's library, and the call sites in torch_npu's sources
(call_sites.py), recorded for each release that the emulator knows (records.py).
"""

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from . import call_sites
from .call_sites import CallSites, Form
from .errors import EmulatorError
from .stack import Stack

# The types of csrc/operators/operator.h, as the C interface passes them.
DECLARED_TYPES = {
    "Tensor": call_sites.TENSOR,
    "Output": call_sites.TENSOR,
    "DynamicOutput": call_sites.TENSOR,
    "Tensors": call_sites.TENSORS,
    "Outputs": call_sites.TENSORS,
    "Scalar": call_sites.SCALAR,
    "OptionalScalar": call_sites.SCALAR,
    "Scalars": call_sites.SCALARS,
    "Ints": call_sites.INTS,
    "Bools": call_sites.BOOLS,
    "Text": call_sites.TEXT,
    "DType": call_sites.INT32,
    **{name: call_sites.CPP_TYPES[name] for name in ("int64_t", "uint64_t", "int", "int32_t", "int8_t")},
    **{name: call_sites.CPP_TYPES[name] for name in ("bool", "float", "double")},
}


@dataclass(frozen=True)
class Operator:
    """A declared operator, as libopapi.so lists it."""

    name: str
    kind: str
    parameters: tuple[tuple[str, str], ...]  # (type, name)

    @property
    def form(self) -> Form:
        """The types as the C interface passes them."""
        return tuple(DECLARED_TYPES[kind] for kind, _ in self.parameters)


@dataclass(frozen=True)
class Comparison:
    """Declared operators against call sites. Each list is sorted by name."""

    agree: tuple[str, ...]
    differ: tuple[str, ...]  # "aclnnFoo is declared with (tensor), called with (tensor, int64)"
    no_call_site: tuple[str, ...]


def parse_operator(line: str) -> Operator:
    """Parses "aclnnAdd Elementwise (Tensor self, Tensor other, Scalar alpha, Output out)".

    Raises:
        EmulatorError: A type that the C interface does not have.
    """
    name, kind, parameters = re.fullmatch(r"(\w+) (\w+) \((.*)\)", line).groups()
    pairs = tuple(tuple(parameter.strip().rsplit(" ", 1)) for parameter in parameters.split(",") if parameter.strip())
    operator = Operator(name, kind, pairs)
    for type_name, _ in pairs:
        if type_name not in DECLARED_TYPES:
            raise EmulatorError(
                f"{name} has an argument of type {type_name}, of which emulator/arguments.py does not know how it is "
                f"passed. It knows {', '.join(DECLARED_TYPES)}."
            )
    return operator


def compare(operators: Iterable[Operator], calls: Mapping[str, set[Form]]) -> Comparison:
    """Compares every operator with all forms in which it is called."""
    agree, differ, no_call_site = [], [], []
    for operator in sorted(operators, key=lambda operator: operator.name):
        forms = calls.get(operator.name)
        if not forms:
            no_call_site.append(operator.name)
        elif any(call_sites.accepts(operator.form, form) for form in forms):
            agree.append(operator.name)
        else:
            called = " or ".join(call_sites.written(form) for form in sorted(forms))
            differ.append(f"{operator.name} is declared with {call_sites.written(operator.form)}, called with {called}")
    return Comparison(tuple(agree), tuple(differ), tuple(no_call_site))


# ---- the installed wheel --------------------------------------------------------------------------------------------


def names_in_wheel(stack: Stack) -> set[str]:
    """The operators that the installed torch_npu can ask for: it looks up each by "<name>GetWorkspaceSize"."""
    library = stack.torch_npu.folder / "lib" / "libtorch_npu.so"
    try:
        content = library.read_bytes()
    except FileNotFoundError as error:
        raise EmulatorError(f"{library} is missing: torch_npu {stack.torch_npu.version} is damaged.") from error
    return {name.decode() for name in re.findall(rb"(?<=\0)(acl(?:nn)?[A-Z]\w*)GetWorkspaceSize(?=\0)", content)}


# ---- the sources ----------------------------------------------------------------------------------------------------


def source_name(folder: Path) -> str:
    """The name and commit of a checkout, or its folder's name where it is none."""
    answer = subprocess.run(
        ["git", "-C", str(folder), "log", "-1", "--format=%H of %cs"], capture_output=True, text=True
    )
    return f"{folder.name} {answer.stdout.strip()}".strip()


def calls_in(checkouts: Sequence[Path], stack: Stack) -> CallSites:
    """The call sites in checkouts of op-plugin and torch_npu.

    Raises:
        EmulatorError: A folder is missing, or holds no call site.
    """
    torch = Version(stack.torch.version)
    for folder in checkouts:
        if not folder.is_dir():
            raise EmulatorError(f"{folder} is no folder. Expected a checkout of Ascend/op-plugin or Ascend/pytorch.")
    found = call_sites.find_calls(checkouts, (torch.major, torch.minor))
    if not found.forms:
        raise EmulatorError(
            f"{', '.join(map(str, checkouts))} holds no call of an operator (EXEC_NPU_CMD, or gen_opapi in "
            "op_plugin_functions.yaml). Expected checkouts of Ascend/op-plugin and Ascend/pytorch with their files."
        )
    return found


def report_on(
    operators: Sequence[Operator], calls: Mapping[str, set[Form]], known_names: set[str], elsewhere: set[str]
) -> tuple[list[str], bool]:
    """The lines of a report, and whether all is well.

    Args:
        operators: those that are declared.
        calls: the call sites of the installed torch_npu.
        known_names: the names in the installed torch_npu.
        elsewhere: names that other releases call: an operator for those is no mistake.
    """
    result = compare(operators, calls)
    declared = {operator.name for operator in operators}
    unknown = sorted(declared - known_names - elsewhere)
    lines = [
        f"{len(result.agree)} operators agree with their call sites",
        f"{len(result.differ)} differ",
        *(f"    {line}" for line in result.differ),
        f"{len(result.no_call_site)} have no call site in the sources: {', '.join(result.no_call_site) or '-'}",
        f"{len(declared - known_names - set(unknown))} are for other releases of torch_npu",
        f"{len(unknown)} have a name that no known torch_npu has: {', '.join(unknown) or '-'}",
        f"{len(known_names - declared)} of the {len(known_names)} names that it knows are not emulated "
        "(python -m emulator --info --missing lists them)",
    ]
    return lines, not result.differ and not unknown

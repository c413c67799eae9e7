"""The suite's requirements as its source declares them, read without importing or collecting anything."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from reports.errors import ReportError

ROOT = Path(__file__).resolve().parents[1]  # of the suite that this module is part of
NO_FEATURE = {"parametrize", "requirement"}


@dataclass(frozen=True)
class Declared:
    """One requirement: id, level and sentence as @requirement and the docstring give them.

    Attributes:
        features: the marks of its module and its function, and those of its parameters that the source spells out.
        of_all: those of ``features`` that each of its test cases has: the marks of module and function alone.
        test: "path::function".
        line: of the function's ``def``.
    """

    id: str
    level: str
    sentence: str
    features: tuple[str, ...]
    of_all: tuple[str, ...]
    test: str
    line: int

    @property
    def library(self) -> str:
        """The part of the id before the slash."""
        return self.id.split("/")[0]


def declared(root: Path, folder: str = "tests") -> tuple[Declared, ...]:
    """All requirements below a folder of the suite, by id.

    Raises:
        ReportError: a module is no Python.
    """
    found = [one for path in sorted((root / folder).rglob("test_*.py")) for one in _of_module(path, root)]
    return tuple(sorted(found, key=lambda one: one.id))


def _of_module(path: Path, root: Path) -> list[Declared]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise ReportError(f"{path}: cannot be read as Python: {error}") from None
    constants: dict[str, ast.AST] = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    constants |= {name: node.value for node in tree.body if isinstance(node, ast.Assign) for name in _names(node)}
    shared = _marks(constants["pytestmark"], {}) if "pytestmark" in constants else set()
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and (call := _declaration(node)):
            own = set().union(*(_marks(decorator, constants) for decorator in node.decorator_list))
            of_all = shared.union(*(_mark_of_all(decorator, constants) for decorator in node.decorator_list))
            arguments = {keyword.arg: keyword.value for keyword in call.keywords}
            level = arguments.get("level") or (call.args[1] if len(call.args) > 1 else ast.Constant("core"))
            found.append(
                Declared(
                    id=str(_constant(call.args[0] if call.args else arguments.get("id"))),
                    level=str(_constant(level)),
                    sentence=" ".join((ast.get_docstring(node) or "").split()),
                    features=tuple(sorted(shared | own)),
                    of_all=tuple(sorted(of_all)),
                    test=f"{path.relative_to(root).as_posix()}::{node.name}",
                    line=node.lineno,
                )
            )
    return found


def _names(node: ast.Assign) -> list[str]:
    names = []
    for target in node.targets:
        parts = target.elts if isinstance(target, ast.Tuple) else [target]
        names += [part.id for part in parts if isinstance(part, ast.Name)]
    return names


def _declaration(function: ast.FunctionDef) -> ast.Call | None:
    calls = [decorator for decorator in function.decorator_list if isinstance(decorator, ast.Call)]
    return next((call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "requirement"), None)


def _constant(node: ast.AST | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def _mark_of_all(decorator: ast.AST, constants: dict[str, ast.AST]) -> set[str]:
    """The mark that a decorator is, as such or by the name of a constant; marks inside of parametrize are of some."""
    if isinstance(decorator, ast.Name) and isinstance(constants.get(decorator.id), ast.expr):
        decorator = constants[decorator.id]
    mark = decorator.func if isinstance(decorator, ast.Call) else decorator
    is_mark = (
        isinstance(mark, ast.Attribute) and ast.unparse(mark.value) == "pytest.mark" and mark.attr not in NO_FEATURE
    )
    return {mark.attr} if is_mark else set()


def _marks(tree: ast.AST, constants: dict[str, ast.AST]) -> set[str]:
    """``pytest.mark.NAME`` anywhere in an expression, or in the module's constants and functions that it names."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pytest.mark":
            found.add(node.attr)
        elif isinstance(node, ast.Name) and node.id in constants:
            rest = {name: value for name, value in constants.items() if name != node.id}
            found |= _marks(constants[node.id], rest)
    return found - NO_FEATURE

"""The house: who may import whom, and a map that leaves no room out."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = {"torch", "torch_npu", "transformers", "accelerate", "peft", "trl", "datasets"}
OWN = {"tests", "fixtures", "reports", "emulator", "meta_tests"}
# What each folder must never import.
FORBIDDEN = {
    "tests": OWN - {"tests", "fixtures"},
    "fixtures": {"tests", "emulator", "meta_tests"},
    "reports": (OWN - {"reports"}) | LIBRARIES,
    "emulator": (OWN - {"emulator"}) | LIBRARIES,
}


def imported(file: Path) -> set[str]:
    """The top-level packages that a Python file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_dependencies_run_one_way(folder):
    """Tests use fixtures, fixtures use reports, reports know no library; the emulator knows nobody and is not known."""
    files = sorted((ROOT / folder).rglob("*.py"))
    wrong = {str(file.relative_to(ROOT)): found for file in files if (found := imported(file) & FORBIDDEN[folder])}

    assert files
    assert not wrong


def test_the_map_names_every_module():
    """The map of fixtures/ names each module and each folder there, and nothing that is not there."""
    text = (ROOT / "fixtures" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\]\((\w+)(?:\.py|/)", text))
    there = {path.stem for path in (ROOT / "fixtures").glob("*.py")} - {"__init__"}
    there |= {path.name for path in (ROOT / "fixtures").iterdir() if path.is_dir() and path.name != "__pycache__"}

    assert named == there

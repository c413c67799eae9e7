"""Small projects that use the suite's machinery: its ini file, its conftest.py, and tests of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What a run of such a project must not inherit from the one that starts it.
FOREIGN = ("NPU_", "ASCEND_", "PYTEST_", "TORCH_", "HF_", "INF_NAN_", "TRANSFORMERS_", "OMP_")


def write_project(folder: Path, tests: str, files: Mapping[str, str] | None = None) -> None:
    """Writes a project with one test module, and ``files`` (name -> text) beside it. Run it with PYTHONPATH=ROOT."""
    (folder / "tests").mkdir(parents=True, exist_ok=True)
    ini = (ROOT / "pytest.ini").read_text(encoding="utf-8")
    texts = {
        "pytest.ini": ini.replace("pythonpath = .", f"pythonpath = {ROOT} ."),
        "conftest.py": (ROOT / "conftest.py").read_text(encoding="utf-8"),
        "tests/test_written.py": tests,
        **(files or {}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")

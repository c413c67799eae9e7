"""Runs the suite's machinery over small written test files, as a user would run it, in a directory of their own."""

import _ctypes
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from emulator.cache import cache_folder
from meta_tests.projects import FOREIGN, ROOT, write_project

HEAD = """
import pytest
from fixtures.requirement import requirement, unsupported
"""
# pytester gives a run a home of its own, where the emulator would be built again.
EMULATOR_CACHE = str(cache_folder())


@dataclass(frozen=True)
class Ran:
    """What became of a run of the suite."""

    returncode: int
    stdout: str
    stderr: str
    directory: Path

    @property
    def records(self) -> list[dict]:
        """The journal, in order."""
        return [json.loads(line) for line in (self.directory / "run/journal.jsonl").read_text().splitlines()]

    @property
    def tests(self) -> dict[str, dict]:
        """The test records, by the name of the test function."""
        return {record["nodeid"].split("::")[-1]: record for record in self.records if record["type"] == "test"}

    @property
    def outcomes(self) -> dict[str, str]:
        """Outcome by the name of the test function."""
        return {name: record["outcome"] for name, record in self.tests.items()}

    @property
    def verdict(self) -> str:
        """The last line of the run."""
        return self.stdout.rstrip().splitlines()[-1]


@pytest.fixture(scope="session")
def built():
    """The emulator is built, so that no run has to wait for that."""
    subprocess.run([sys.executable, "-m", "emulator", "--build"], cwd=ROOT, check=True)


@pytest.fixture
def suite(pytester, monkeypatch, request):
    """suite(test_code, *arguments, env={}, modules={}, files={}, emulated=False) -> Ran: the machinery over a written
    test module, beside ``modules`` (name -> Python) and ``files`` (name -> text, such as waivers.toml).

    Without ``emulated`` there is no card; tests that do not ask for one run all the same.
    """
    for name in list(os.environ):
        if name.startswith(FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NPU_EMULATOR_CACHE", EMULATOR_CACHE)

    def run(
        code: str,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        modules: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        emulated: bool = False,
    ) -> Ran:
        modules = {f"{name}.py": text for name, text in (modules or {}).items()}
        write_project(pytester.path, HEAD + textwrap.dedent(code), {**modules, **(files or {})})
        launcher = [sys.executable, "-m", "emulator"] if emulated else []
        for name, value in {"PYTHONPATH": str(ROOT), **(env or {})}.items():
            monkeypatch.setenv(name, value)
        done = pytester.run(*launcher, sys.executable, "-m", "pytest", "--run-dir", "run", *arguments, timeout=240)
        return Ran(done.ret, done.stdout.str(), done.stderr.str(), pytester.path)

    return run


@pytest.fixture
def a_loadable_cann(tmp_path):
    """An environment in which the loader finds some libascendcl.so."""
    (tmp_path / "libascendcl.so").symlink_to(_ctypes.__file__)  # any library that can be loaded
    return {"LD_LIBRARY_PATH": str(tmp_path)}

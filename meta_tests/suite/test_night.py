"""The nightly workflow rehearsed: its steps, executed in their order as a runner would, on emulated cards.

What cannot be rehearsed without a runner are the actions of others (checkout, artefacts, Python: this module does what
they are documented to do), the container, and GitHub itself, for which a script of the name ``gh`` stands.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conftest import ROOT
from meta_tests.reports.made_runs import ended, records, write
from reports.run import load

# What a night runs here: enough tests for a shard to be killed among them, of a moment each.
NIGHT = "tests/runtime/test_linear_algebra.py"
EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")
# Kills the suite once the first result is in its journal, as the kernel does when the host's memory ends.
KILLER = """
import subprocess, sys, time
from pathlib import Path
journal, command = Path(sys.argv[1], "journal.jsonl"), sys.argv[2:]
suite = subprocess.Popen(command)
while suite.poll() is None and not (journal.is_file() and '"type":"test"' in journal.read_text()):
    time.sleep(0.05)
suite.kill()
sys.exit(137 if suite.wait() == -9 else 1)
"""
# The suite that is to be killed goes no further than to its first result.
WAITING = """
import time
class Waiting:
    def pytest_runtest_logfinish(self):
        time.sleep(600)
def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Waiting())
"""
# A job imports the standard library and what its own `pip install` brings, nothing else of this environment.
SITE = """
import os, sys
class NotInstalled:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in os.environ["NOT_INSTALLED"].split():
            raise ModuleNotFoundError(f"No module named {name!r}: the job does not install it", name=name)
sys.meta_path.insert(0, NotInstalled)
"""
PYTHON = """
case "$*" in
"-m pytest --require-npu "*)
    night=({python} -m emulator pytest "${{@:3}}" {night})
    if [ -e {killed} ]; then exec "${{night[@]}}"; fi
    touch {killed}; PYTHONPATH={plugins} exec {python} {killer} "$RUN" "${{night[@]}}" -p waiting ;;
"-m pytest"*) exec {python} -m emulator pytest "${{@:3}}" ;;
*) PYTHONPATH={folder} exec {python} "$@" ;;
esac
"""
# The last good run, once there is an artefact of one.
GH = """
case "$1 $2" in
"run list") if [ -d {last} ]; then echo 4711; fi ;;
"run download") [ "$3 $4 $5 $6" = "4711 --name run --dir" ] && cp -r {last} "$7" ;;
*) echo "gh $*: not known"; exit 1 ;;
esac
"""


class Runner:
    """Executes jobs of a workflow, each in a new copy of the project, and keeps their artefacts in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.artefacts = folder / "artefacts"
        self.summary = folder / "summary.md"
        programs = folder / "programs"
        plugins = folder / "plugins"
        programs.mkdir()
        plugins.mkdir()
        words = {
            "python": sys.executable,
            "night": NIGHT,
            "folder": programs,
            "plugins": plugins,
            "killer": programs / "killer.py",
            "killed": folder / "killed",
            "last": folder / "last",
        }
        for name, text in {"python": PYTHON, "pip": "", "gh": GH}.items():
            (programs / name).write_text(f"#!/bin/bash\n{text.format(**words)}")
            (programs / name).chmod(0o755)
        (programs / "killer.py").write_text(KILLER)
        (programs / "sitecustomize.py").write_text(SITE)
        (plugins / "waiting.py").write_text(WAITING)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("NPU_CONF", "PYTEST_"))},
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "GITHUB_REF_NAME": "main",
            "PYTEST_ADDOPTS": "-n 1",
        }

    def execute(self, job: Mapping[str, Any], **expressions: str) -> dict[str, int]:
        """Executes a job; ``expressions`` replace GitHub's (``matrix_shard`` is ``${{ matrix.shard }}``).

        Returns the exit code of each step that ran, by name, or by its text. Steps' output is in ``<name>.log``.
        """
        known = {name.replace("_", "."): value for name, value in expressions.items()}

        def filled(text: object) -> str:
            return EXPRESSION.sub(lambda found: known[found[1]], str(text))

        work = checkout(self.folder / "work")
        variables = {name: filled(value) for name, value in job.get("env", {}).items()}
        packages = [name for step in job["steps"] for name in re.findall(r"pip install (.*)", step.get("run", ""))]
        environment = {**self.environment, **variables, "NOT_INSTALLED": " ".join(not_installed(packages))}
        codes: dict[str, int] = {}
        for step in job["steps"]:
            if any(codes.values()) and step.get("if") != "always()":
                continue
            given = {name: filled(value) for name, value in step.get("with", {}).items()}
            match step.get("uses", "").partition("@")[0]:
                case "":
                    name = step.get("name", step["run"])
                    with (self.folder / f"{re.sub('[^a-z]+', '-', name.lower())}.log").open("w") as log:
                        bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", filled(step["run"])]
                        codes[name] = subprocess.run(
                            bash, cwd=work, env=environment, stdout=log, stderr=subprocess.STDOUT, timeout=300
                        ).returncode
                case "actions/upload-artifact":
                    shutil.copytree(work / given["path"], self.artefacts / given["name"])
                case "actions/download-artifact":
                    for artefact in self.artefacts.glob(given["pattern"]):
                        shutil.copytree(artefact, work / given["path"] / artefact.name)
                case "actions/checkout" | "actions/setup-python":
                    pass
        return codes


def test_a_night(tmp_path, built):
    """Shards whose run is killed are resumed; the report is of all results, and the next night is compared with it."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/nightly.yml").read_text())["jobs"]
    shards = jobs["conformance"]["strategy"]["matrix"]["shard"]
    runner = Runner(tmp_path)
    report = {"github_token": "", "inputs_profile || 'full'": "full"}

    for shard in shards:
        codes = runner.execute(jobs["conformance"], matrix_shard=str(shard))
        assert not any(codes.values()), codes
    first = runner.execute(jobs["report"], **report)

    assert not any(first.values()), first
    found = load(tmp_path / "artefacts/run")
    assert len(found.journals) == len(shards) + 1, "one shard was killed and resumed"
    assert {test["outcome"] for test in found.tests} == {"PASS", "XFAIL"}
    assert "No good run to compare with." in runner.summary.read_text()

    (tmp_path / "artefacts/run").rename(tmp_path / "last")
    second = runner.execute(jobs["report"], **report)

    assert not any(second.values()), second
    made = {path.name for path in (tmp_path / "artefacts/run").iterdir()}
    assert {"report.html", "junit.xml", "ctrf.json", "comparison.html"} <= made
    assert " as before; nothing changed." in runner.summary.read_text()


def test_the_report_of_a_change(tmp_path):
    """The shards of the workflow for changes are merged, summarised and verified by what its report installs."""
    job = yaml.safe_load((ROOT / ".github/workflows/emulated.yml").read_text())["jobs"]["report"]
    runner = Runner(tmp_path)
    for number in range(1, 5):
        write(
            runner.artefacts / f"shard-{number}",
            records([ended("PASS", f"demo/{number}")], header={"shard": f"{number}/4"}),
        )

    codes = runner.execute(job)

    assert not any(codes.values()), codes
    assert "CONFORMANT" in runner.summary.read_text()
    assert (tmp_path / "artefacts/run/junit.xml").is_file()


def checkout(folder: Path) -> Path:
    """A copy of what is under version control here."""
    shutil.rmtree(folder, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


def not_installed(lines: list[str]) -> list[str]:
    """The packages of this environment that ``pip install`` of ``lines`` does not bring."""
    brought: set[str] = set()
    wanted = [Requirement(word) for line in lines for word in line.split() if not word.startswith("-")]
    while wanted:
        requirement = wanted.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if (name := canonicalize_name(requirement.name)) not in brought:
            brought.add(name)
            wanted += map(Requirement, requires(name) or ())
    return [
        package
        for package, distributions in packages_distributions().items()
        if not brought & {canonicalize_name(name) for name in distributions}
    ]

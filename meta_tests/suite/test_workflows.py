"""The workflows and containers for CI call only what there is: options of the suite, commands of reports, files."""

import re
import subprocess

import pytest
import yaml

from conftest import ROOT
from reports.__main__ import COMMANDS

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def steps(workflow) -> list[str]:
    """All shell commands of a workflow, continued lines joined."""
    content = yaml.safe_load(workflow.read_text())
    scripts = [step["run"] for job in content["jobs"].values() for step in job["steps"] if "run" in step]
    return [line.strip() for script in scripts for line in script.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_commands_of_workflows(workflow):
    """Each command of reports, each option of pytest and each target of make exists."""
    options = set(re.findall(r'"(--[a-z-]+)"', (ROOT / "fixtures/options.py").read_text()))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = steps(workflow)

    commands = {match for line in lines for match in re.findall(r"python -m reports (\S+)", line)}
    given = {
        match
        for line in lines
        if re.search(r"\bpytest\b", line)
        for match in re.findall(r" (--[a-z-]+)(?=[ =]|$)", line)
    }
    made = {match for line in lines for match in re.findall(r"\bmake (\S+)", line)}
    assert commands <= set(COMMANDS)
    assert given <= options
    assert made <= targets
    assert "--doctor" in given


def test_the_report_is_made_whatever_the_shards_say():
    """A night whose shards failed is reported, kept, and red."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/nightly.yml").read_text())["jobs"]

    assert jobs["report"]["if"] == "always()"
    assert "python -m reports verify run" in jobs["report"]["steps"][-1]["run"]
    kept = [step for job in jobs.values() for step in job["steps"] if "upload-artifact" in step.get("uses", "")]
    assert len(kept) == 2
    assert all(step["if"] == "always()" for step in kept)


@pytest.mark.parametrize("file", sorted((ROOT / "docker").glob("*.Dockerfile")), ids=lambda path: path.stem)
def test_files_of_containers(file):
    """Each file that a container copies and each requirement file that it installs is there."""
    text = file.read_text()
    copied = [word for line in re.findall(r"^COPY (.*)", text, re.MULTILINE) for word in line.split()[:-1]]
    installed = re.findall(r"-r (\S+)", text)

    assert all((ROOT / name).exists() for name in [*copied, *installed])


def test_every_shell_of_the_container_has_cann(tmp_path):
    """The script that the image for Ascend machines writes sets CANN's variables in shells of any kind."""
    home = tmp_path / "Ascend/ascend-toolkit"
    home.mkdir(parents=True)
    (home / "set_env.sh").write_text(f"export ASCEND_HOME_PATH={home}\n")
    text = (ROOT / "docker/ascend.Dockerfile").read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^RUN (printf .*)$", text, re.MULTILINE)
    profile = tmp_path / "cann.sh"
    here = command.replace("/etc/profile.d/cann.sh", str(profile)).replace(
        "/usr/local/Ascend", str(tmp_path / "Ascend")
    )

    subprocess.run(["bash", "-c", here], check=True)
    shown = subprocess.run(
        ["bash", "-c", "echo $ASCEND_HOME_PATH"], env={"BASH_ENV": str(profile)}, capture_output=True, text=True
    )

    assert shown.stdout.strip() == str(home)

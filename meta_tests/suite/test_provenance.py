"""The record of what was tested says what is there, and None where nothing is."""

import os
import subprocess

import pytest

from fixtures import provenance


@pytest.fixture
def ascend(tmp_path, monkeypatch):
    """A made-up Ascend machine: driver, firmware, CANN with two packages, and npu-smi."""
    for name, text in {
        "driver/version.info": "Version=25.0.rc1\nascendhal_version=7.35.23\n",
        "firmware/version.info": "Version=7.5.0.1.129\n",
        "cann/aarch64-linux/ascend_toolkit_install.info": "package_name=Ascend-cann-toolkit\nversion=8.2.RC1\n",
        "cann/runtime/version.info": "Version=8.2.RC1\n",
        "cann/opp/version.info": "# nothing known\n",
        "bin/npu-smi": "#!/bin/sh\n[ \"$1\" = info ] && echo '| npu-smi 25.0.rc1 |'\n",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "bin/npu-smi").chmod(0o755)
    monkeypatch.setattr(provenance, "ASCEND", tmp_path)
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path / "cann"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path


def test_an_ascend_machine(ascend, monkeypatch):
    """Driver, firmware, CANN and its packages, and npu-smi are recorded as their own files and commands say."""
    monkeypatch.delenv("NPU_EMULATOR_CARDS", raising=False)
    facts = provenance.header(ascend)

    assert (facts["driver"], facts["firmware"]) == ("25.0.rc1", "7.5.0.1.129")
    assert facts["cann"]["version"] == "8.2.RC1"
    assert facts["cann"]["packages"] == {"opp": None, "runtime": "8.2.RC1"}
    assert facts["npu_smi"] == "| npu-smi 25.0.rc1 |"
    assert facts["emulated"] is False
    assert provenance.summary({**facts, "cards": [0, 1]})[0] == "cards: 0, 1 (CANN 8.2.RC1, driver 25.0.rc1)"


def test_a_machine_without_anything(tmp_path, monkeypatch):
    """Where there is no driver, no CANN, no npu-smi and no repository, each fact is None and nothing is guessed."""
    monkeypatch.setattr(provenance, "ASCEND", tmp_path)
    monkeypatch.delenv("ASCEND_HOME_PATH", raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")

    facts = provenance.header(tmp_path)

    assert [facts[name] for name in ("driver", "firmware", "npu_smi", "revision", "modified")] == [None] * 5
    assert facts["cann"] == {}


def test_a_card_tool_that_hangs(ascend, monkeypatch):
    """A fact whose command does not answer is None; the run goes on."""

    def never(*args, **kwargs):
        raise subprocess.TimeoutExpired("npu-smi", 20)

    monkeypatch.setattr(subprocess, "run", never)

    assert provenance.header(ascend)["npu_smi"] is None


def test_emulated_cards_are_called_so(monkeypatch, tmp_path):
    """The launcher's variable makes a run EMULATED, its settings are recorded, and a reproduce command uses it."""
    for name in [name for name in os.environ if name.startswith("NPU_EMULATOR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NPU_EMULATOR_CARDS", "2")
    monkeypatch.setenv("NPU_EMULATOR_NOISE", "seed=1")

    facts = provenance.header(tmp_path)

    assert facts["emulated"] is True
    assert facts["emulator"] == {"NPU_EMULATOR_CARDS": "2", "NPU_EMULATOR_NOISE": "seed=1"}
    assert provenance.summary({**facts, "cards": [0]})[0] == "cards: 0 (EMULATED, no CANN, no driver)"
    assert provenance.reproduce_command("a::b") == 'python -m emulator pytest -n 0 "a::b"'
    monkeypatch.delenv("NPU_EMULATOR_CARDS")
    assert provenance.reproduce_command("a::b") == 'python -m pytest -n 0 "a::b"'

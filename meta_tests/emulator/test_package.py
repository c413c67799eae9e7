"""The emulator as a package of its own: `pip install ./emulator` gives `npu-emulator`, which finds its sources."""

import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

from emulator.build import read_sources
from emulator.cache import cache_folder

EMULATOR = Path(__file__).resolve().parents[2] / "emulator"


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """The folder of programs of a fresh environment with the package; torch is that of this environment."""
    folder = tmp_path_factory.mktemp("package")
    sources = shutil.copytree(EMULATOR, folder / "emulator", ignore=shutil.ignore_patterns("__pycache__", "build"))
    venv.create(folder / "venv", with_pip=True)
    site = next((folder / "venv/lib").glob("python3*")) / "site-packages"
    (site / "stack.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    python = folder / "venv/bin/python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", sources], capture_output=True, text=True, timeout=300
    )
    if done.returncode != 0 and "No matching distribution found for setuptools" in done.stderr:
        pytest.skip("pip cannot fetch setuptools here, which builds the package")
    assert done.returncode == 0, done.stderr
    return folder / "venv/bin"


def run(installed: Path, *words: str, **variables: str) -> subprocess.CompletedProcess:
    """Calls npu-emulator from a folder where no emulator/ is."""
    environment = {**os.environ, "NPU_EMULATOR_CACHE": str(cache_folder()), **variables}
    command = [installed / "npu-emulator", *words]
    return subprocess.run(command, cwd=installed, env=environment, capture_output=True, text=True, timeout=500)


def test_a_command_on_emulated_cards(installed):
    """The unmodified torch_npu computes on as many cards as were asked for."""
    code = "import torch; print((torch.ones(2, device='npu:2') * 2).sum().item(), torch.npu.device_count())"
    done = run(installed, "run", "python", "-c", code, NPU_EMULATOR_CARDS="3")

    assert done.stdout.split() == ["4.0", "3"], done.stderr


def test_all_sources_are_packaged(installed):
    """Every source file, and what is recorded of torch_npu, is in the package."""
    package = next((installed.parent / "lib").glob("python3*/site-packages/npu_emulator"))

    assert read_sources(package / "csrc") == read_sources(EMULATOR / "csrc")
    assert [path.name for path in (package / "recorded_arguments").iterdir()] == [
        path.name for path in (EMULATOR / "recorded_arguments").iterdir()
    ]


def test_exit_codes_are_those_of_the_command(installed):
    """The exit code of COMMAND is that of npu-emulator; a call without one says what there is."""
    assert run(installed, "run", "python", "-c", "raise SystemExit(7)").returncode == 7
    asked = run(installed)
    assert (asked.returncode, "npu-emulator run COMMAND" in asked.stderr) == (2, True)

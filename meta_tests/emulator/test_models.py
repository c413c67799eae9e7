"""Tiny models of many architectures train on the emulated card as they do on the CPU."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]

# Each group is trained by two Python processes (card and CPU), because imports take longer than training.
GROUPS = {
    "decoders": ("gpt2", "llama", "qwen3", "mixtral", "mamba"),
    "encoders-and-speech": ("bert", "t5", "bart", "whisper", "wav2vec2_ctc"),
    "vision": ("vit", "resnet", "clip"),
}

MODELS = "meta_tests.emulator.models"
WITHOUT_TORCH_NPU = f"""
import runpy, sys
sys.modules["torch_npu"] = None  # whoever asks for it finds it not installed
runpy.run_module("{MODELS}", run_name="__main__")
"""

LOSS_TOLERANCE = 1e-6
"""Relative. float32 kernels are the CPU's; torch_npu composes attention and norms of others than the CPU does."""

WEIGHT_TOLERANCE = 1e-6
"""Absolute, after three steps of at most 0.01 each; about 2e-7 is measured."""


@pytest.fixture(scope="module")
def built():
    """The emulator is built, so that no process has to wait for it."""
    subprocess.run([sys.executable, "-m", "emulator", "--build"], cwd=ROOT, check=True)


def start(device: str, folder: Path, names: tuple[str, ...]) -> subprocess.Popen:
    """Starts the training of a group of models on a device."""
    folder.mkdir()
    chosen = ("NPU_EMULATOR_", "ASCEND_", "TASK_QUEUE_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(chosen)}
    if "NPU_EMULATOR_CACHE" in os.environ:
        environment["NPU_EMULATOR_CACHE"] = os.environ["NPU_EMULATOR_CACHE"]
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TORCH_NPU_WARNING_DISABLE": "1"}
    command = [sys.executable, "-m", "emulator", sys.executable, "-m", MODELS]
    if device == "cpu":
        environment |= {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "ASCEND_RT_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-c", WITHOUT_TORCH_NPU]
    with (folder / "stderr").open("w") as stderr:
        return subprocess.Popen(
            [*command, device, str(folder), *names],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )


@pytest.mark.parametrize("group", GROUPS)
def test_models_train_as_on_the_cpu(group, tmp_path, built):
    """Losses of three float32 steps and all final weights and buffers equal those of the CPU without torch_npu."""
    runs = {device: start(device, tmp_path / device, GROUPS[group]) for device in ("npu", "cpu")}
    try:
        for device, run in runs.items():
            code = run.wait(timeout=500)
            assert code == 0, f"{device}:\n{(tmp_path / device / 'stderr').read_text()[-6000:]}"
    finally:
        for run in runs.values():
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)

    problems = []
    for name in GROUPS[group]:
        measured, expected = (load_file(tmp_path / device / f"{name}.safetensors") for device in ("npu", "cpu"))
        assert measured.keys() == expected.keys()
        for key, wanted in expected.items():
            worst = numpy.abs(measured[key].astype(float) - wanted.astype(float)).max(initial=0.0)
            limit = LOSS_TOLERANCE * numpy.abs(wanted).max() if key == "loss" else WEIGHT_TOLERANCE
            if not worst <= limit:
                problems.append(f"{name}: {key} differs by {worst:.3g}, limit {limit:.3g}")
    assert not problems, "\n".join(problems)

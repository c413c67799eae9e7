"""`python -m emulator COMMAND`: how the command is found and started, and its environment."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emulator.build import Build
from emulator.launch import emulated_environment, find_command, real_cann

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def build(tmp_path):
    """A build that is never loaded."""
    folder = tmp_path / "libraries"
    folder.mkdir()
    (folder / "build.json").touch()
    (folder / "libascendcl.so").touch()
    return Build(folder, {}, -1)


@pytest.fixture
def emulator(built):
    """A function that runs `python -m emulator` with these arguments and environment variables."""

    def run(*arguments, **environment) -> subprocess.CompletedProcess:
        chosen = ("NPU_EMULATOR_", "ASCEND_", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(chosen) or k == "NPU_EMULATOR_CACHE"}
        return subprocess.run(
            [sys.executable, "-m", "emulator", *map(str, arguments)],
            cwd=ROOT,
            env={**inherited, **environment},
            capture_output=True,
            text=True,
            input="from the caller",
        )

    return run


# ---- the environment ----


def test_the_environment_names_the_emulator(build):
    """The libraries come first, ASCEND_HOME_PATH names the emulator's folders, and the number of cards is explicit."""
    environment = emulated_environment(build, {"HOME": "/home/someone", "PATH": "/usr/bin"})

    assert environment == {
        "HOME": "/home/someone",
        "PATH": f"{Path(sys.executable).parent}:/usr/bin",
        "LD_LIBRARY_PATH": str(build.folder),
        "ASCEND_HOME_PATH": str(build.folder / "cann"),
        "ASCEND_OPP_PATH": str(build.folder / "cann/opp"),
        "NPU_EMULATOR_CARDS": "2",
        "OMP_NUM_THREADS": "1",
    }


def test_what_the_user_chose_stays(build):
    """Settings, thread numbers and the user's own libraries are kept."""
    chosen = {"NPU_EMULATOR_CARDS": "4", "OMP_NUM_THREADS": "8", "LD_LIBRARY_PATH": "/opt/lib"}
    environment = emulated_environment(build, chosen)

    assert (environment["NPU_EMULATOR_CARDS"], environment["OMP_NUM_THREADS"]) == ("4", "8")
    assert environment["LD_LIBRARY_PATH"] == f"{build.folder}:/opt/lib"


def test_operators_for_a_real_card_are_not_loaded(build):
    """Custom operators of a real CANN, which torch_npu would prefer, are left out."""
    assert "ASCEND_CUSTOM_OPP_PATH" not in emulated_environment(build, {"ASCEND_CUSTOM_OPP_PATH": "/opt/custom"})


def test_a_real_cann_is_noticed(build, tmp_path):
    """Cards in /dev, CANN's libraries in LD_LIBRARY_PATH and CANN's ASCEND_HOME_PATH are noticed."""
    devices, library, toolkit = tmp_path / "dev", tmp_path / "lib", tmp_path / "toolkit"
    for folder in (devices, library, toolkit / "lib64"):
        folder.mkdir(parents=True)
    assert real_cann({}, devices) == []

    for file in (devices / "davinci0", devices / "davinci_manager"):
        file.touch()
    (library / "libascendcl.so").touch()
    (toolkit / "lib64/libascendcl.so").touch()

    assert real_cann({}, devices) == [f"cards ({devices}/davinci0)"]
    assert real_cann({"LD_LIBRARY_PATH": f"/nowhere:{library}"}, tmp_path) == [f"CANN ({library})"]
    assert real_cann({"ASCEND_HOME_PATH": str(toolkit)}, tmp_path) == [f"CANN ({toolkit}/lib64)"]


def test_the_emulator_is_not_taken_for_a_real_cann(build, tmp_path):
    """A command that an emulated command starts on the emulator hides nothing real."""
    assert real_cann(emulated_environment(build, {}), tmp_path) == []


def test_a_hidden_cann_is_said_in_one_line(emulator, tmp_path):
    """Where emulated cards hide a real CANN, one line says so, and the command runs."""
    (tmp_path / "libascendcl.so").touch()
    run = emulator(sys.executable, "-c", "print('ran')", LD_LIBRARY_PATH=str(tmp_path))

    assert run.stderr == f"emulator: the emulated cards hide this machine's real CANN ({tmp_path}).\n"
    assert run.stdout == "ran\n"


# ---- the command ----


def test_the_command_replaces_the_launcher(emulator):
    """The command gets the caller's standard input and all its arguments, and its exit code is the launcher's."""
    code = "import sys; print(sys.stdin.read(), sys.argv[1:]); sys.exit(7)"
    run = emulator(sys.executable, "-c", code, "--build", "-m", "single_npu", "")

    assert run.stdout == "from the caller ['--build', '-m', 'single_npu', '']\n"
    assert (run.returncode, run.stderr) == (7, "")


def test_children_of_the_command_are_emulated_too(emulator):
    """A process that the command starts loads the emulated library by its bare name."""
    child = "import ctypes; ctypes.CDLL('libascendcl.so').aclrtGetDeviceCount"
    run = emulator(
        sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    )

    assert run.returncode == 0, run.stderr


def test_threads_that_look_for_work_may_sleep_longer(emulator):
    """The kernel may end sleeps of the command, and of what it starts, a millisecond late: torch_npu's threads poll."""
    program = "import subprocess; print(open('/proc/self/timerslack_ns').read().strip(), flush=True);"
    program += "subprocess.run(['cat', '/proc/self/timerslack_ns'])"

    run = emulator(sys.executable, "-c", program)

    assert run.stdout.split() == ["1000000", "1000000"]


def test_torch_npu_sees_the_cards(emulator):
    """The unmodified torch_npu imports without a warning and sees as many cards as are set."""
    run = emulator("python", "-c", "import torch; print(torch.npu.device_count())", NPU_EMULATOR_CARDS="3")

    assert (run.stdout, run.stderr) == ("3\n", "")


def test_a_command_on_path_is_found(tmp_path):
    """A program in a folder of PATH is found by its name."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)

    assert find_command("program", f"/nowhere:{tmp_path}") == str(program)


def test_a_command_of_this_environment_comes_first(emulator, tmp_path):
    """This environment's `pytest` is run although it is not activated and PATH has another."""
    other = tmp_path / "pytest"
    other.write_text("#!/bin/sh\necho another\n")
    other.chmod(0o755)
    run = emulator("sh", "-c", "command -v pytest", PATH=f"{tmp_path}:/usr/bin:/bin")

    assert (run.stdout.strip(), run.stderr) == (str(Path(sys.executable).parent / "pytest"), "")


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (
            ["no-such-command"],
            127,
            f"The command no-such-command was not found in {Path(sys.executable).parent} or on PATH.",
        ),
        (["./no-such-command"], 127, "The command ./no-such-command was not found."),
        (["./README.md"], 126, "README.md is not executable (chmod +x, or put its interpreter before it)."),
        (["./emulator"], 126, "emulator is a folder."),
    ],
    ids=["not on PATH", "no such file", "not executable", "a folder"],
)
def test_a_command_that_cannot_be_run(emulator, command, code, message):
    """A command that is not there exits with 127, one that cannot be executed with 126, as in a shell."""
    run = emulator(*command)

    assert (run.returncode, run.stderr, run.stdout) == (code, f"emulator: {message}\n", "")


def test_a_command_of_another_machine(emulator, tmp_path):
    """A file that the system cannot execute is named, with the system's reason."""
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF but not quite")
    program.chmod(0o755)
    run = emulator(program)

    assert (run.returncode, run.stderr) == (126, f"emulator: {program} cannot be executed: Exec format error.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "what is to run? Give a COMMAND"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--build", "--info"], "not allowed with argument"),
        (["--build", "--json"], "--operators, --missing and --json belong to --info"),
        (["--check-arguments", "--record"], "--record belongs to --check-arguments CHECKOUT"),
    ],
    ids=["nothing", "unknown option", "two actions", "option of another action", "record without sources"],
)
def test_a_wrong_command_line(emulator, arguments, message):
    """A wrong command line exits with 2 after the usage and what is wrong."""
    run = emulator(*arguments)

    assert run.returncode == 2
    assert run.stderr.startswith("usage: python -m emulator COMMAND")
    assert message in run.stderr


@pytest.mark.parametrize("variable", ["NPU_EMULATOR_CARDS", "NPU_EMULATOR_CARD"], ids=["wrong value", "wrong name"])
def test_wrong_settings_are_refused_before_the_command_starts(emulator, variable, tmp_path):
    """A setting that the library refuses ends the launcher with 2 and the library's message; the command never runs."""
    run = emulator("touch", tmp_path / "ran", **{variable: "-1"})

    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert variable in run.stderr
    assert not (tmp_path / "ran").exists()


# ---- --info ----


def test_info_says_what_is_built_and_for_what(emulator):
    """--info names the versions, the settings in force and how many operators there are."""
    run = emulator("--info", NPU_EMULATOR_SOC="Ascend910A")

    for part in (
        "torch_npu 2.13.0",
        "NPU_EMULATOR_SOC=Ascend910A",
        "NPU_EMULATOR_CARDS=2",
        "Elementwise",
        "HcclAllReduce",
    ):
        assert part in run.stdout


def test_info_lists_operators_with_their_arguments(emulator):
    """--operators lists each operator with its arguments, --missing those that torch_npu could ask for beyond them."""
    run = emulator("--info", "--operators", "--missing")

    assert "aclnnAdd(Tensor self, Tensor other, Scalar alpha, Output out)  Elementwise" in run.stdout.splitlines()
    assert "aclnnSwigluGroupQuant" in run.stdout.splitlines()


def test_info_as_json(emulator):
    """--json has all of it for programs."""
    facts = json.loads(emulator("--info", "--json").stdout)
    add = next(operator for operator in facts["operators"] if operator["name"] == "aclnnAdd")

    assert add["arguments"] == ["Tensor self", "Tensor other", "Scalar alpha", "Output out"]
    assert facts["torch_npu"]["version"] in facts["torch_npu"]["known"]
    assert "HcclAllReduce" in facts["collectives"]
    assert not {operator["name"] for operator in facts["operators"]} & set(facts["missing"])

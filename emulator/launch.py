"""Runs a command on emulated cards: environment, check of the settings, exec."""

import ctypes
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import NoReturn

from .build import Build
from .errors import EmulatorError

CARDS_VARIABLE = "NPU_EMULATOR_CARDS"
DEFAULT_CARDS = "2"
# How much memory of each card is in use, by all processes that descend from the command (csrc/runtime/accounting.h).
LEDGER_VARIABLE = "_NPU_EMULATOR_LEDGER"
LEDGER_BYTES = 512 * 272  # as many processes as one machine may need, each with an entry
PR_SET_TIMERSLACK, TIMER_SLACK = 29, 1_000_000  # of prctl(2); nanoseconds


def emulated_environment(build: Build, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which torch_npu finds the emulator instead of CANN; the caller's other variables stay.

    NPU_EMULATOR_CARDS is always there, so that the record of a run can tell an emulated card from a real one.
    OMP_NUM_THREADS=1, because each rank, and each thread that executes operators, would start as many threads as there
    are cores.
    """
    result = dict(environment)
    libraries = [str(build.folder), environment.get("LD_LIBRARY_PATH", "")]
    result["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
    # This environment's own pytest, accelerate, torchrun and python, activated or not, before others of the same name.
    result["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    result["ASCEND_HOME_PATH"] = str(build.cann)
    result["ASCEND_OPP_PATH"] = str(build.cann / "opp")
    result.pop("ASCEND_CUSTOM_OPP_PATH", None)  # operators for a real card, which torch_npu would prefer to these
    result[CARDS_VARIABLE] = environment.get(CARDS_VARIABLE) or DEFAULT_CARDS
    result.setdefault("OMP_NUM_THREADS", "1")
    return result


def share_accounting(environment: MutableMapping[str, str]) -> None:
    """Has all processes of the command share the memory of the cards: an unnamed file, which this process keeps open.

    A command that is started by an emulated one shares with it.
    """
    if Path(environment.get(LEDGER_VARIABLE, "/nowhere")).exists():
        return
    file = os.memfd_create("npu-emulator-cards", 0)  # not closed by the exec that follows
    os.ftruncate(file, LEDGER_BYTES)
    environment[LEDGER_VARIABLE] = f"/proc/{os.getpid()}/fd/{file}"


def relax_timers() -> None:
    """Lets sleeps of this process, and of all that it starts, end up to TIMER_SLACK later than asked for.

    Each process that uses a card has a thread of torch_npu that looks for work about every 60 microseconds. On a real
    host a core is there for it; where the cards are processor cores too, it took a sixth of one from each process that
    waited, and takes a twenty-fifth so. Where the kernel knows no timer slack nothing changes.
    """
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, ctypes.c_ulong(TIMER_SLACK), 0, 0, 0)


def real_cann(environment: Mapping[str, str], devices: Path = Path("/dev")) -> list[str]:
    """What of a real CANN and of real cards can be seen: "cards (/dev/davinci0)", "CANN (/usr/local/Ascend/...)"."""
    found = []
    cards = sorted(devices.glob("davinci[0-9]*"))
    if cards:
        found.append(f"cards ({', '.join(map(str, cards))})")
    folders = [Path(folder) for folder in environment.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder]
    home = environment.get("ASCEND_HOME_PATH")
    if home:
        folders.append(Path(home, "lib64"))
    library = next((file for file in (folder / "libascendcl.so" for folder in folders) if is_real(file)), None)
    if library:
        found.append(f"CANN ({library.parent})")
    return found


def is_real(library: Path) -> bool:
    """Whether the file is there and is not the emulator's own (a command started by an emulated one)."""
    return library.is_file() and not (library.parent / "build.json").is_file()


def check_settings(build: Build, environment: Mapping[str, str]) -> None:
    """Loads libascendcl.so in a child process: its constructor reads all settings, and refuses with a message.

    Raises:
        SystemExit: With exit code 2 where it refused; its message is already on standard error.
        EmulatorError: It cannot be loaded.
    """
    program = "import ctypes, os, sys; ctypes.CDLL(sys.argv[1]); os._exit(0)"
    command = [sys.executable, "-I", "-S", "-c", program, str(build.folder / "libascendcl.so")]
    code = subprocess.run(command, env=environment).returncode
    if code == 2:
        raise SystemExit(2)
    if code != 0:
        raise EmulatorError(f"{build.folder / 'libascendcl.so'} cannot be loaded (exit code {code}).")


def find_command(name: str, path: str) -> str:
    """The file to execute, from the folders of ``path``.

    Raises:
        EmulatorError: With exit code 127 where there is none, 126 where it is not executable.
    """
    found = shutil.which(name, path=path)
    if found:
        return found
    places = [Path(name)] if "/" in name else [Path(folder, name) for folder in path.split(os.pathsep) if folder]
    present = next((file for file in places if file.exists()), None)
    if present:
        reason = "is a folder" if present.is_dir() else "is not executable (chmod +x, or put its interpreter before it)"
        raise EmulatorError(f"{present} {reason}.", exit_code=126)
    where = "" if "/" in name else f" in {Path(sys.executable).parent} or on PATH"
    raise EmulatorError(f"The command {shlex.quote(name)} was not found{where}.", exit_code=127)


def execute(build: Build, command: Sequence[str]) -> NoReturn:
    """Replaces this process by the command, with the emulator in its environment."""
    environment = emulated_environment(build, os.environ)
    file = find_command(command[0], environment["PATH"])
    hidden = real_cann(os.environ)
    if hidden:
        print(
            f"emulator: the emulated cards hide this machine's real {' and '.join(hidden)}.",
            file=sys.stderr,
            flush=True,
        )
    check_settings(build, environment)
    share_accounting(environment)
    relax_timers()
    try:
        os.execve(file, list(command), environment)
    except OSError as error:
        raise EmulatorError(f"{file} cannot be executed: {error.strerror}.", exit_code=126) from error

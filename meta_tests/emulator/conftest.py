"""Runs Python programs on emulated cards: each in its own process, because settings are read once per process."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What a program without torch needs to call the runtime by ctypes.
RUNTIME = """
import ctypes
from ctypes import byref, c_float, c_int32, c_size_t, c_uint32, c_void_p, create_string_buffer

acl = ctypes.CDLL("libascendcl.so")
acl.aclGetRecentErrMsg.restype = ctypes.c_char_p
acl.aclrtMemcpy.argtypes = [c_void_p, c_size_t, c_void_p, c_size_t, c_int32]
acl.aclrtMemcpyAsync.argtypes = [*acl.aclrtMemcpy.argtypes, c_void_p]
acl.aclrtMemset.argtypes = [c_void_p, c_size_t, c_int32, c_size_t]
for name in "aclrtFree", "aclrtFreeHost", "aclrtSynchronizeStream", "aclrtDestroyStream", "aclrtSynchronizeEvent":
    getattr(acl, name).argtypes = [c_void_p]
acl.aclrtSynchronizeStreamWithTimeout.argtypes = [c_void_p, c_int32]
for name in "aclrtRecordEvent", "aclrtStreamWaitEvent", "aclrtStreamQuery", "aclrtQueryEventStatus":
    getattr(acl, name).argtypes = [c_void_p, c_void_p]
acl.aclrtEventElapsedTime.argtypes = [c_void_p, c_void_p, c_void_p]
TO_DEVICE, TO_HOST, ON_DEVICE = 1, 2, 3

def error():
    return acl.aclGetRecentErrMsg().decode()

def ok(code):
    assert code == 0, (code, error())

def malloc(count):
    pointer = c_void_p()
    ok(acl.aclrtMalloc(byref(pointer), c_size_t(count), 0))
    return pointer.value

def stream():
    handle = c_void_p()
    ok(acl.aclrtCreateStream(byref(handle)))
    return handle.value

def event():
    handle = c_void_p()
    ok(acl.aclrtCreateEventExWithFlag(byref(handle), 8))
    return handle.value

def upload(device, data):
    ok(acl.aclrtMemcpy(device, len(data), data, len(data), TO_DEVICE))

def download(device, count):
    buffer = create_string_buffer(count)
    ok(acl.aclrtMemcpy(buffer, count, device, count, TO_HOST))
    return buffer.raw

def free_bytes():
    free, total = c_size_t(), c_size_t()
    ok(acl.aclrtGetMemInfo(1, byref(free), byref(total)))
    return free.value
"""


@dataclass(frozen=True)
class Run:
    """What became of a program on emulated cards."""

    returncode: int  # negative: the signal that ended it
    stdout: str
    stderr: str
    calls: Mapping[str, int]  # how often each operator, collective and runtime call was made, over all processes
    fired: Mapping[str, int]  # how often each fault fired, over all processes; 0 for one that never did

    def succeeded(self) -> "Run":
        """This run, or a failure of the test with what the program printed."""
        assert self.returncode == 0, f"exit code {self.returncode}\n{self.stdout}\n{self.stderr}"
        return self


@pytest.fixture(scope="session")
def built():
    """The emulator is built, so that what a program prints is its own."""
    subprocess.run([sys.executable, "-m", "emulator", "--build"], cwd=ROOT, check=True, env=_inherited())


@pytest.fixture(scope="session")
def launched(built) -> dict[str, str]:
    """The environment that `python -m emulator` gives to a command, without what a test is to choose."""
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    command = [sys.executable, "-m", "emulator", sys.executable, "-c", program]
    answer = subprocess.run(command, cwd=ROOT, env=_inherited(), check=True, stdout=subprocess.PIPE)
    return json.loads(answer.stdout)


def _inherited() -> dict[str, str]:
    """This process' environment without what a test is to choose."""
    chosen = ("NPU_EMULATOR_", "ASCEND_", "INF_NAN_", "PYTORCH_", "TASK_QUEUE_", "RANK")
    return {
        name: value for name, value in os.environ.items() if not name.startswith(chosen) or name == "NPU_EMULATOR_CACHE"
    }


@pytest.fixture
def emulated(tmp_path, launched):
    """A function that runs Python code on emulated cards and returns what became of it."""

    def run(code: str, *, runtime=False, environment=None, deadline=120, asynchronous=0, **settings) -> Run:
        """Runs `code`, with torch_npu or (`runtime`) with the names of RUNTIME.

        `settings` are those of emulator/README.md in lower case without their prefix: cards=4, faults="aclnnMm:zero".
        """
        log = tmp_path / "log.jsonl"
        log.unlink(missing_ok=True)
        program = tmp_path / "program.py"
        program.write_text((RUNTIME if runtime else "") + textwrap.dedent(code))
        variables = {
            f"NPU_EMULATOR_{name.upper()}": str(value)
            for name, value in {"log": log, "async": asynchronous, **settings}.items()
        }
        child = subprocess.Popen(
            [sys.executable, program],
            cwd=ROOT,
            env={**launched, "TORCH_NPU_WARNING_DISABLE": "1", **variables, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            stdout, stderr = child.communicate(timeout=deadline)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            stdout, stderr = child.communicate()
            pytest.fail(f"not done after {deadline} s\n{stdout}\n{stderr}")
        calls, fired = Counter(), Counter()
        for line in log.read_text().splitlines() if log.exists() else []:
            entry = json.loads(line)
            if "call" in entry:
                calls[entry["call"]] += entry["count"]
            else:
                fired[entry["fault"]] += entry["fired"]
        return Run(child.returncode, stdout, stderr, calls, fired)

    return run

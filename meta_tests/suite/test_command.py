"""A command is watched from outside: its end, its deadline, what it leaves behind, and what it did on the NPU."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from fixtures import command
from fixtures.command import execute
from fixtures.errors import CommandFailed, DeadlineExceeded
from meta_tests.deadlines import strike_when

# Stands in for torch and torch_npu in a child.
FAKE_TORCH = """
import sys, types
class Npu(types.ModuleType):
    def is_initialized(self): return True
    def device_count(self): return 1
    def get_device_name(self, index): return "Fake910"
    def memory_stats(self, card): return {"allocation.all.allocated": 7, "allocated_bytes.all.peak": 512}
npu = Npu("npu")
"""


def python(code: str) -> list[str]:
    """A command that runs a line of Python."""
    return [sys.executable, "-c", code]


@pytest.fixture
def observations(tmp_path):
    """Where the processes of a command report."""
    directory = tmp_path / "observations"
    directory.mkdir()
    return directory


def test_a_command_that_succeeds(observations):
    """Both streams, the exit code and the time come back; check returns the result itself."""
    done = execute(python("import sys; print('out'); print('err', file=sys.stderr)"), observations)

    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err\n")
    assert done.check() is done
    assert done.npu.processes == 0


def test_a_command_that_fails(observations):
    """check raises with the command line, the exit code and the end of what it said."""
    done = execute(python("raise SystemExit('no card')"), observations)

    with pytest.raises(CommandFailed, match=r"measured: exit code 1\ncommand: .* -c (.|\n)*no card"):
        done.check()


def test_a_command_that_is_killed(observations):
    """Death by a signal is no success, and the signal is named."""
    done = execute(python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), observations)

    assert done.returncode == -signal.SIGKILL
    with pytest.raises(CommandFailed, match="measured: killed by SIGKILL"):
        done.check()


def test_variables_are_set_and_unset(observations, monkeypatch):
    """env sets variables, and unsets those whose value is None."""
    monkeypatch.setenv("TO_GO", "1")

    done = execute(
        python("import os; print(os.environ.get('TO_GO'), os.environ['TO_COME'])"),
        observations,
        env={"TO_GO": None, "TO_COME": 2},
    )

    assert done.stdout == "None 2\n"


@pytest.fixture
def hangs(tmp_path, monkeypatch):
    """A file: as soon as it is there, the deadline of the command that makes it is over."""
    file = tmp_path / "hangs"
    monkeypatch.setattr(command, "_ended_by", command._ended_by)  # is put back afterwards
    strike_when(file.exists)
    return file


HANGING = """
import pathlib, subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(grandchild.pid, flush=True)
def waits_for_ever():
    pathlib.Path(sys.argv[1]).touch()
    time.sleep(600)
waits_for_ever()
"""


def test_a_command_that_hangs(observations, hangs):
    """At its deadline the whole process group is killed, and the message has the stacks of where it hung."""
    with pytest.raises(DeadlineExceeded, match=r"expected: an end within 3 s") as raised:
        execute([*python(HANGING), hangs], observations, deadline=3)

    message = str(raised.value)
    assert "in waits_for_ever" in message
    assert not alive(int(message.split("--- end of stdout ---\n")[1].split()[0]))


def test_a_command_that_ignores_signals(observations, hangs):
    """A command that ignores what asks for its stacks is killed all the same."""
    stubborn = (
        "import pathlib, signal, sys, time; signal.signal(signal.SIGABRT, signal.SIG_IGN); print('up', flush=True); "
        "pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
    )

    with pytest.raises(DeadlineExceeded, match="up"):
        execute([*python(stubborn), hangs], observations, deadline=2)


def test_what_a_command_leaves_behind(observations):
    """A process that a command leaves in its group is ended with it, since it would keep the card busy."""
    leaving = (
        "import subprocess, sys; quiet = subprocess.DEVNULL; child = subprocess.Popen([sys.executable, '-c', "
        "'import time; time.sleep(600)'], stdout=quiet, stderr=quiet); print(child.pid)"
    )

    done = execute(python(leaving), observations)

    assert not alive(int(done.stdout))


def alive(pid: int) -> bool:
    """Whether a process still runs; what was just killed is given a moment to go."""
    for _ in range(50):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return False
        except FileNotFoundError:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize("name", ["short", "as long as a path may be for what must be next to it, but for sockets"])
def test_temporary_files_of_a_command(tmp_path_factory, name):
    """What a command leaves in the directory for temporary files is gone with it, however it ends."""
    observations = tmp_path_factory.mktemp(name)
    code = "import os, signal, tempfile; print(tempfile.mkdtemp(), flush=True); os.kill(os.getpid(), signal.SIGKILL)"

    ran = execute([sys.executable, "-c", code], observations)

    made = Path(ran.stdout.strip())
    assert made.is_relative_to(observations) == (name == "short")
    assert made.name
    assert not made.parent.exists()


@pytest.fixture
def fake_torch(tmp_path):
    """An environment in which a child finds a torch_npu that counts seven allocations."""
    directory = tmp_path / "fake"
    directory.mkdir()
    (directory / "torch.py").write_text(FAKE_TORCH)
    (directory / "torch_npu.py").write_text("")
    return {"PYTHONPATH": str(directory)}


def test_work_of_children_is_seen(observations, fake_torch):
    """Each Python process that imported torch_npu reports its work, grandchildren included."""
    both = "import subprocess, sys, torch, torch_npu; subprocess.run([sys.executable, '-c', 'import torch, torch_npu'])"

    done = execute(python(both), observations, env=fake_torch)

    done.check()
    assert (done.npu.processes, done.npu.allocations, done.npu.peak_bytes) == (2, 14, 512)
    assert done.npu.devices == ("Fake910",)


def test_work_is_seen_even_if_the_child_fails(observations, fake_torch):
    """A child that raises after its work reports it."""
    done = execute(python("import torch, torch_npu; raise SystemExit(3)"), observations, env=fake_torch)

    assert done.returncode == 3
    assert done.npu.processes == 1


BACKWARD = """
import ctypes, hashlib, threading, torch, torch_npu
began = threading.Event()

def let_go():
    ctypes.CDLL(None).prctl(15, b"pt_autograd_0")  # the name of such a thread
    began.set()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000_000)
    print("let go", flush=True)

threading.Thread(target=let_go, daemon=True).start()
began.wait()
"""


def test_the_end_of_a_child_waits_for_its_last_backward_pass(observations, fake_torch):
    """A child leaves Python when torch's threads have let go of what they executed: else they could abort it."""
    done = execute(python(BACKWARD), observations, env=fake_torch)

    assert done.check().stdout == "let go\n"


def test_children_without_torch_npu_report_nothing(observations, fake_torch):
    """A child that never imports torch_npu, or only looks whether it is there, did nothing on the NPU."""
    looking = "import importlib.util; assert importlib.util.find_spec('torch_npu')"

    assert execute(python(looking), observations, env=fake_torch).check().npu.processes == 0


def test_commands_of_this_environment_are_found(observations):
    """A command finds the programs that stand beside this Python, whether or not the environment is activated."""
    where = python("import shutil; print(shutil.which('pytest'))")

    done = execute(where, observations, env={"PATH": "/usr/bin:/bin"})

    assert Path(done.stdout.strip()) == Path(sys.executable).parent / "pytest"


def test_the_sitecustomize_of_the_environment_still_runs(observations, tmp_path):
    """A sitecustomize that the observer hides runs as it would without."""
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.customized = True")

    done = execute(python("print(customized)"), observations, env={"PYTHONPATH": str(tmp_path)})

    assert done.stdout == "True\n"


def test_fallbacks_of_children(observations):
    """Operators that a child says it ran on the CPU are named."""
    said = (
        "CAUTION: The operator aten::_masked_softmax is currently not supported on the NPU backend.Now this operator "
        "will fallback to run on the CPU and may have performance implications. Please try to update your CANN version."
    )

    done = execute(python(f"import sys; print({said!r}, file=sys.stderr)"), observations)

    assert done.npu.fallbacks == ("aten::_masked_softmax",)


def test_timeouts_in_a_run(suite):
    """A test whose command does not end in time is a TIMEOUT; what its commands did is in the evidence."""
    ran = suite(
        """
        import sys

        @pytest.mark.host
        @requirement("demo/hangs")
        def test_hangs(command):
            '''A command ends.'''
            command([sys.executable, "-c", "import time; time.sleep(600)"], deadline=1)

        @pytest.mark.host
        @requirement("demo/ends")
        def test_ends(command, evidence):
            '''Another command ends.'''
            done = command([sys.executable, "-c", "print(1)"]).check()
            evidence.check_equal("output", done.stdout, "1\\n")
        """,
        *("-n", "0"),
    )

    assert ran.outcomes == {"test_hangs": "TIMEOUT", "test_ends": "PASS"}
    (recorded,) = ran.tests["test_ends"]["values"]["commands"]
    assert recorded["exit_code"] == 0
    assert recorded["npu"]["processes"] == 0
    assert os.path.basename(recorded["argv"][0]).startswith("python")

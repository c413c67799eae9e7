"""The reference is computed in a process that cannot see an NPU, once for each question, and its death is no
failure.
"""

import os
import signal
import sys
import threading

import pytest

from fixtures.errors import InfrastructureError
from fixtures.reference import ReferenceProcess, key

QUESTIONS = '''
"""Workloads that ask the reference process about itself."""
import os, sys, time
from dataclasses import dataclass

@dataclass(frozen=True)
class Question:
    about: str

def run(question, device, dtype):
    if question.about == "sight":
        import importlib.util
        found = importlib.util.find_spec("torch_npu")
        names = ("ASCEND_RT_VISIBLE_DEVICES", "TORCH_DEVICE_BACKEND_AUTOLOAD")
        return device, dtype, found, [os.environ.get(name) for name in names]
    if question.about == "libraries":
        import torch
        from accelerate.utils import is_npu_available
        from transformers.utils import is_torch_npu_available
        return is_npu_available(), is_torch_npu_available(), hasattr(torch, "npu"), "torch_npu._C" in sys.modules
    if question.about == "tensor":
        import torch
        return torch.arange(5)
    if question.about == "process":
        return os.getpid()
    if question.about == "error":
        raise ValueError("no such thing")
    if question.about == "death":
        print("going down", flush=True)
        os._exit(9)
    if question.about == "hang":
        time.sleep(600)
'''


@pytest.fixture
def questions(tmp_path, monkeypatch):
    """The module of questions, importable here and in the reference process."""
    (tmp_path / "questions.py").write_text(QUESTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "questions", raising=False)
    import questions

    return questions.Question


@pytest.fixture
def process(tmp_path):
    """A reference process."""
    started = ReferenceProcess(tmp_path / "log")
    yield started
    started.close()


def test_the_reference_cannot_see_an_npu(process, questions, monkeypatch):
    """The process finds no torch_npu, no card, and no autoload, whatever this process sees."""
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "0,1")

    assert process.measure(questions("sight"), "float32") == ("cpu", "float32", None, ["", "0"])


def test_libraries_see_no_npu_there(process, questions):
    """accelerate, transformers and torch know of no NPU in the reference process."""
    assert process.measure(questions("libraries"), "float32") == (False, False, False, False)


def test_tensors_outlive_the_process(process, questions):
    """A tensor of the reference is whole after its process has ended."""
    import cpu_torch  # noqa: F401  (what comes back is unpickled here)

    tensor = process.measure(questions("tensor"), "float32")
    process.close()

    assert tensor.tolist() == [0, 1, 2, 3, 4]


def test_one_process_answers_many_questions(process, questions):
    """The imports are paid once: the same process answers until it is closed."""
    assert process.measure(questions("process"), "float32") == process.measure(questions("process"), "float64")


def test_an_error_of_the_workload(process, questions):
    """A workload that raises on the CPU is INFRA, with the workload and its traceback; the process lives on."""
    before = process.measure(questions("process"), "float32")

    with pytest.raises(
        InfrastructureError, match=r"Question\(about='error'\) in float32 on the CPU raised:(.|\n)*no such"
    ):
        process.measure(questions("error"), "float32")

    assert process.measure(questions("process"), "float32") == before


def test_death(process, questions):
    """A reference process that dies is INFRA, with its exit code and what it said last; the next question starts
    another.
    """
    with pytest.raises(InfrastructureError, match=r"died with exit code 9(.|\n)*going down"):
        process.measure(questions("death"), "float32")

    assert process.measure(questions("process"), "float32")


def test_a_killed_process(process, questions):
    """A reference process that was killed between two questions is replaced."""
    first = process.measure(questions("process"), "float32")
    os.kill(first, signal.SIGKILL)
    process._child.wait()

    assert process.measure(questions("process"), "float32") != first


def test_a_hang(process, questions):
    """A reference process that does not answer in time is killed, and that is INFRA."""
    with pytest.raises(InfrastructureError, match="did not answer within 2 s"):
        process.measure(questions("hang"), "float32", deadline=2)

    assert process.measure(questions("process"), "float32")


def test_it_ends_with_its_worker(tmp_path, questions):
    """A reference process ends by itself once the process that asked is gone, however that ended."""
    process = ReferenceProcess(tmp_path / "log")
    process.measure(questions("process"), "float32")
    child = process._child

    process._connection.close()  # what the operating system does to a process that was killed
    timer = threading.Timer(60, child.kill)
    timer.start()

    assert child.wait() == 0
    timer.cancel()


def test_equal_questions_share_their_key(questions):
    """Results are shared by specification and dtype, and by nothing less."""
    assert key(questions("a"), "float32") == key(questions("a"), "float32")
    assert len({key(questions("a"), "float32"), key(questions("b"), "float32"), key(questions("a"), "float64")}) == 3


COUNTED = """
from dataclasses import dataclass
from pathlib import Path

@dataclass(frozen=True)
class Counted:
    log: str

def run(counted, device, dtype):
    with Path(counted.log).open("a") as log:
        log.write("computed ")
    return Path(counted.log).read_text()
"""


def test_workers_share_references(suite):
    """Two workers that need the same reference compute it once."""
    ran = suite(
        """
        from pathlib import Path
        from counted import Counted

        @pytest.mark.host
        @pytest.mark.parametrize("number", range(4))
        @requirement("demo/shares")
        def test_shares(evidence, reference, number):
            '''References are shared.'''
            evidence.check_equal("log", reference(Counted(str(Path("log").absolute())), "float32"), "computed ")
        """,
        *("-n", "2"),
        modules={"counted": COUNTED},
    )

    assert list(ran.outcomes.values()) == ["PASS"] * 4
    assert len({record["worker"] for record in ran.tests.values()}) == 2


def test_unknown_dtypes(suite):
    """A dtype that no reference has is refused."""
    ran = suite(
        """
        @pytest.mark.host
        @requirement("demo/dtype")
        def test_dtype(reference):
            '''A thing works.'''
            with pytest.raises(ValueError, match="must be one of float64, float32, float16, bfloat16, not 'fp16'"):
                reference(None, "fp16")
        """,
        *("-n", "0"),
    )

    assert ran.outcomes == {"test_dtype": "PASS"}

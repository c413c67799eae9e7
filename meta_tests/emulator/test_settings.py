"""The environment variables NPU_EMULATOR_*: what they do, and which values are refused."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

REFUSED = [
    ("cards", "0", "from 1 to 32"),
    ("cards", "-1", "from 1 to 32"),
    ("cards", "33", "from 1 to 32"),
    ("cards", "two", "from 1 to 32"),
    ("cards", "2.0", "from 1 to 32"),
    ("memory", "abc", "with a unit"),
    ("memory", "64", "with a unit"),
    ("memory", "0GiB", "positive"),
    ("memory", "-1GiB", "positive"),
    ("soc", "Ascend920", "Ascend910B3"),
    ("soc", "ascend910b3", "Ascend910B3"),
    ("latency", "5", "50us"),
    ("latency", "-1us", "50us"),
    ("async", "2", "0 (operators run at once) or 1"),
    ("noise", "loud", "seed=N"),
    ("noise", "seed=1", "at least one of the last three"),
    ("noise", "ulp=0", "1 to 1024"),
    ("noise", "ulp=2,", "seed=N"),
    ("trace", "yes", "0 or 1"),
    ("hccl_timeout", "0", "positive number of seconds"),
    ("log", "/no/such/folder/log", "can be written"),
    ("log", "/", "can be written"),
]


@pytest.mark.parametrize(("name", "value", "expected"), REFUSED, ids=[f"{name}={value}" for name, value, _ in REFUSED])
def test_an_invalid_value_is_refused(emulated, name, value, expected):
    """An invalid value ends the process with exit code 2 and one message: variable, value, what is expected."""
    run = emulated("raise SystemExit('the program ran')", runtime=True, **{name: value})

    assert run.returncode == 2
    assert run.stderr.startswith(f"emulator: NPU_EMULATOR_{name.upper()}='{value}' is not valid: expected ")
    assert expected in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_an_unknown_variable_is_refused(emulated):
    """A variable with the emulator's prefix that is no setting is refused, and the message lists the settings."""
    run = emulated("raise SystemExit('the program ran')", runtime=True, card=2)

    assert run.returncode == 2
    assert "NPU_EMULATOR_CARD is no setting of the emulator" in run.stderr
    assert "NPU_EMULATOR_CARDS, NPU_EMULATOR_MEMORY" in run.stderr


def test_an_empty_value_is_the_default(emulated):
    """A variable that is set to nothing counts as unset."""
    run = emulated(
        """
        count = c_uint32()
        ok(acl.aclrtGetDeviceCount(byref(count)))
        print(count.value)
        """,
        runtime=True,
        environment={
            f"NPU_EMULATOR_{name}": "" for name in ("CARDS", "MEMORY", "SOC", "NOISE", "FAULTS", "LATENCY", "LOG")
        },
    ).succeeded()

    assert run.stdout.split() == ["2"]


def test_cards_memory_and_chip_reach_torch(emulated):
    """torch_npu sees the number of cards, the memory of each and the chip's name as set."""
    run = emulated(
        """
        import torch
        print(torch.npu.device_count(), torch.npu.get_device_name(2), torch.npu.mem_get_info(2))
        print(torch.npu.get_device_properties(2).total_memory)
        """,
        cards=3,
        memory="1.5GiB",
        soc="Ascend910_9391",
    ).succeeded()

    size = 3 * 512 * 1024**2
    assert run.stdout.splitlines() == [f"3 Ascend910_9391 ({size}, {size})", str(size)]


def test_the_chips_are_those_of_torch_npu(emulated):
    """The chips that are accepted are exactly those that the installed torch_npu has in its table, and Ascend950*."""
    header = Path(find_spec("torch_npu").origin).parent / "include/torch_npu/csrc/core/npu/NpuVariables.h"
    theirs = set(re.findall(r"^\s*(Ascend\w+)", header.read_text(), re.MULTILINE)) - {"Ascend950"}

    run = emulated("", runtime=True, soc="unknown")

    ours = set(re.findall(r"Ascend[\w-]+(?=,)", run.stderr))
    assert {name.replace("-", "_") for name in ours} == theirs
    emulated("", runtime=True, soc="Ascend950PR_9599").succeeded()


def test_latency_is_added_to_operators(emulated):
    """Every operator takes at least the latency that is set; a call of the runtime does not."""
    run = emulated(
        """
        import time
        import torch
        x = torch.ones(4, device="npu")
        torch.npu.synchronize()
        begin = time.monotonic()
        for _ in range(20):
            x.add_(1)
        torch.npu.synchronize()
        print(time.monotonic() - begin)
        """,
        latency="10ms",
    ).succeeded()

    assert float(run.stdout) >= 0.2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ["0", "1"]),
        ("", []),
        ("1", ["1"]),
        ("0,1", ["0", "1"]),
        ("1,5", ["1"]),  # cut at the first that is no card
        ("1,0", []),  # must ascend
        ("1,x", ["1"]),
        ("x", []),
        ("-1", []),
    ],
)
def test_visible_devices(emulated, value, expected):
    """ASCEND_RT_VISIBLE_DEVICES chooses the cards and renumbers them from 0, as CANN does."""
    run = emulated(
        """
        count, chip = c_uint32(), ctypes.c_int64()
        acl.aclrtGetDeviceCount(byref(count))
        for index in range(count.value):
            ok(acl.aclrtGetDeviceInfo(index, 402, byref(chip)))
            print(chip.value)
        """,
        runtime=True,
        environment={} if value is None else {"ASCEND_RT_VISIBLE_DEVICES": value},
    ).succeeded()

    assert run.stdout.split() == expected


def test_tracing_prints_each_call(emulated):
    """NPU_EMULATOR_TRACE=1 prints each call with its card, dtype, number of elements and the faults that fire on it."""
    run = emulated("malloc(4096)", runtime=True, trace=1, faults="aclrtMalloc:delay=0").succeeded()

    assert re.search(r"^emulator: \d+ npu:0 aclrtMalloc  <- aclrtMalloc:delay=0$", run.stderr, re.MULTILINE)


def test_a_forked_child_may_have_other_settings(emulated):
    """A child that is forked before a card was used reads its own settings and faults, and refuses bad ones."""
    run = emulated(
        """
        import os, torch

        def child(faults, expected):
            pid = os.fork()
            if pid == 0:
                os.environ["NPU_EMULATOR_FAULTS"] = faults
                with torch.npu.stream(torch.npu.Stream()):
                    print((torch.ones(3, device="npu") + 1).sum().item() == expected, flush=True)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0

        torch.npu.device_count()
        child("aclnnAdds:zero", 0)
        child("", 6)
        child("aclnnAdds:zero@stream=side", 0)
        child("aclnnAdds:scale=2", 12)

        pid = os.fork()
        if pid == 0:
            os.environ["NPU_EMULATOR_FAULTS"] = "aclnnAdds:nonsense"
            torch.ones(1, device="npu")
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
        cards=1,
    ).succeeded()

    assert run.stdout.split() == ["True", "True", "True", "True", "2"]
    assert "unknown action 'nonsense'" in run.stderr

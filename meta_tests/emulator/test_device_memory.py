"""Memory of the emulated cards: what it holds, who may touch it, and how it is counted."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_slices_between_cards(emulated):
    """A part of a tensor that is copied to another card arrives as it is."""
    emulated(
        """
        import torch
        x = torch.arange(90.0).view(2, 9, 5)
        for dtype in (torch.float32, torch.float16, torch.int64, torch.bool):
            for part in ((slice(None), slice(-1)), (slice(1, 2), slice(3, 7, 2)), (..., slice(1, None))):
                there = x.to(dtype).npu()[part].to("npu:1")
                assert torch.equal(there.cpu(), x.to(dtype)[part]), (dtype, part)
        """
    ).succeeded()


def test_memory_is_counted_per_card(emulated):
    """What is allocated on a card is missing from its free memory, and from that of no other, until it is freed."""
    emulated(
        """
        ok(acl.aclrtSetDevice(1))
        all_of_it = free_bytes()
        block = malloc(3 << 20)
        assert free_bytes() == all_of_it - (3 << 20)
        ok(acl.aclrtSetDevice(0))
        assert free_bytes() == all_of_it
        ok(acl.aclrtFree(block))
        ok(acl.aclrtSetDevice(1))
        assert free_bytes() == all_of_it
        """,
        runtime=True,
    ).succeeded()


def test_a_full_card(emulated):
    """An allocation that does not fit fails with the code of out of memory and figures; the card stays usable."""
    emulated(
        """
        first = malloc(96 << 20)
        pointer = c_void_p(1)
        assert acl.aclrtMalloc(byref(pointer), c_size_t(64 << 20), 0) == 207001
        message = error()
        assert pointer.value is None
        assert "out of memory on device 0" in message and f"{96 << 20} of {128 << 20} in use" in message
        ok(acl.aclrtFree(first))
        malloc(128 << 20)
        """,
        runtime=True,
        memory="128MiB",
    ).succeeded()


def test_torch_reports_out_of_memory(emulated):
    """A full card is a torch.OutOfMemoryError after torch_npu gave back what it had cached; then training can go on."""
    emulated(
        """
        import torch
        cached = torch.ones(10 << 20, device="npu")
        del cached
        torch.ones(20 << 20, device="npu")  # fits only without what was cached
        try:
            torch.ones(64 << 20, device="npu")
        except torch.OutOfMemoryError as error:
            assert "128.00 MiB total capacity" in str(error)
        else:
            raise SystemExit("no error")
        torch.npu.empty_cache()
        assert torch.npu.mem_get_info()[0] == 128 << 20
        assert torch.ones(3, device="npu").tolist() == [1, 1, 1]
        """,
        memory="128MiB",
        environment={"TASK_QUEUE_ENABLE": "0"},
    ).succeeded()


def test_fresh_memory_is_not_a_number(emulated):
    """Fresh memory of a card holds NaN in every floating-point format, so that a read before a write shows."""
    emulated("assert download(malloc(1 << 20), 1 << 20) == bytes([255]) * (1 << 20)", runtime=True).succeeded()


def test_huge_blocks_cost_no_host_memory(emulated):
    """A block of many GiB takes host memory only where it is written, beyond its poisoned first 64 MiB."""
    emulated(
        """
        malloc(50 << 30)
        # Not getrusage(): its peak is also that of whoever started this program, before it did (getrusage(2), exec).
        status = dict(line.split(":") for line in open("/proc/self/status"))
        assert int(status["VmHWM"].split()[0]) < 512 << 10
        """,
        runtime=True,
    ).succeeded()


@pytest.mark.parametrize("access", ["ctypes.string_at(block, 8)", "ctypes.memset(block, 0, 8)"])
def test_the_host_cannot_reach_device_memory(emulated, access):
    """Host code that follows a device address crashes, as on a card."""
    run = emulated(
        f"""
        block = malloc(1 << 20)
        upload(block, b"on the card")
        {access}
        """,
        runtime=True,
    )

    assert run.returncode == -signal.SIGSEGV


SHARED = """
import ctypes, os, signal, subprocess, sys, time
acl = ctypes.CDLL("libascendcl.so")

def free_memory():
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    assert acl.aclrtGetMemInfo(0, ctypes.byref(free), ctypes.byref(total)) == 0
    return free.value

def take(bytes):
    return acl.aclrtMalloc(ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t(bytes), 0)

acl.aclrtSetDevice(0)
GIB = 1 << 30
if len(sys.argv) > 1:
    assert take(3 * GIB) == 0
    print("taken", flush=True)
    sys.stdin.read()
else:
    before = free_memory()
    again = [sys.executable, "-c", sys.orig_argv[-1], "other"]
    other = subprocess.Popen(again, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    other.stdout.readline()
    assert before - free_memory() == 3 * GIB, (before, free_memory())
    assert take(2 * GIB) == 207001
    other.kill()
    other.wait()
    assert free_memory() == before
    assert take(2 * GIB) == 0
"""


def test_processes_share_the_memory_of_a_card(built):
    """What one process takes of a card, another one cannot have, until the first one ends, however it ends."""
    done = subprocess.run(
        [sys.executable, "-m", "emulator", sys.executable, "-c", SHARED],
        cwd=ROOT,
        env={**os.environ, "NPU_EMULATOR_MEMORY": "4GiB"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_freed_memory_cannot_be_read(emulated):
    """Reading freed device memory crashes rather than returns what was there."""
    run = emulated(
        """
        block = malloc(1 << 20)
        upload(block, b"old data")
        ok(acl.aclrtFree(block))
        ctypes.string_at(block, 8)
        """,
        runtime=True,
    )

    assert run.returncode == -signal.SIGSEGV


def test_wrong_frees_are_errors(emulated):
    """Freeing twice, freeing what was never allocated, and freeing device memory as host memory are errors."""
    emulated(
        """
        block, on_host = malloc(4096), c_void_p()
        ok(acl.aclrtMallocHost(byref(on_host), c_size_t(4096)))
        assert acl.aclrtFree(on_host) == 107000
        assert acl.aclrtFreeHost(block) == 107000
        assert acl.aclrtFree(block + 512) == 107000
        ok(acl.aclrtFree(block))
        assert acl.aclrtFree(block) == 107000
        assert "freed twice, or never allocated" in error()
        ok(acl.aclrtFreeHost(on_host))
        assert acl.aclrtFreeHost(on_host) == 107000
        """,
        runtime=True,
    ).succeeded()


def test_copies_are_checked(emulated):
    """A copy larger than its destination, beyond a block, of the wrong kind, or from freed memory is an error."""
    emulated(
        """
        block, data = malloc(4096), create_string_buffer(8192)
        assert acl.aclrtMemcpy(block, 10, data, 11, TO_DEVICE) == 107000
        assert "11 bytes do not fit into a destination of 10" in error()
        assert acl.aclrtMemcpy(block, 8192, data, 8192, TO_DEVICE) == 107000
        assert "beyond the destination, of which 4096 are left" in error()
        assert acl.aclrtMemcpy(block + 4000, 97, data, 97, TO_DEVICE) == 107000
        assert acl.aclrtMemcpy(data, 8, block, 8, TO_DEVICE) == 107000
        assert "the destination is to be device memory, but is host memory" in error()
        assert acl.aclrtMemcpy(block, 8, data, 8, ON_DEVICE) == 107000
        assert acl.aclrtMemset(data, 8, 0, 8) == 107000
        assert acl.aclrtMemset(block, 8, 0, 9) == 107000
        ok(acl.aclrtFree(block))
        assert acl.aclrtMemcpy(data, 8, block, 8, TO_HOST) == 107000
        """,
        runtime=True,
    ).succeeded()


def test_copies_carry_bytes(emulated):
    """Copies to the card, on it, and back deliver what was sent; a fill fills what was asked for."""
    emulated(
        """
        a, b = malloc(4096), malloc(4096)
        upload(a, bytes(range(256)))
        ok(acl.aclrtMemcpy(b, 4096, a, 256, ON_DEVICE))
        assert download(b, 256) == bytes(range(256))
        ok(acl.aclrtMemset(b + 1, 4095, 7, 3))
        assert download(b, 5) == bytes([0, 7, 7, 7, 4])
        """,
        runtime=True,
    ).succeeded()


def test_expandable_segments(emulated):
    """torch_npu's expandable segments grow, run out of memory and give memory back as ordinary ones do."""
    emulated(
        """
        import torch
        tensors = []
        try:
            while True:
                tensors.append(torch.full((2 << 20,), len(tensors), dtype=torch.float32, device="npu"))
        except torch.OutOfMemoryError:
            pass
        assert len(tensors) >= 10
        assert [int(tensor[-1].item()) for tensor in tensors] == list(range(len(tensors)))
        assert torch.npu.mem_get_info()[0] < 20 << 20
        tensors.clear()
        torch.npu.empty_cache()
        assert torch.npu.mem_get_info()[0] == 128 << 20
        """,
        memory="128MiB",
        environment={"PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True", "TASK_QUEUE_ENABLE": "0"},
    ).succeeded()

"""Devices, memory, streams and events of the emulated runtime, called as torch_npu calls them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

both_modes = pytest.mark.parametrize("asynchronous", [0, 1], ids=["inline", "asynchronous"])


# ---- devices and contexts ----


def test_a_device_that_is_not_there(emulated):
    """Every call that takes a device refuses one that is not there with CANN's code, and says how many there are."""
    emulated(
        """
        answer = c_int32()
        for name, *arguments in (
            ("aclrtSetDevice", 2),
            ("aclrtSetDevice", -1),
            ("aclrtResetDevice", 2),
            ("aclrtDeviceEnablePeerAccess", 2, 0),
            ("aclrtDeviceCanAccessPeer", byref(answer), 0, 2),
            ("aclrtGetPrimaryCtxState", 2, None, byref(answer)),
        ):
            assert getattr(acl, name)(*arguments) == 107001
            assert "2 are visible" in error()
        """,
        runtime=True,
    ).succeeded()


def test_each_thread_has_its_own_device(emulated):
    """A thread has no device until it sets one, and does not change that of another."""
    emulated(
        """
        import threading
        device = c_int32(7)
        assert acl.aclrtGetDevice(byref(device)) == 107002
        ok(acl.aclrtSetDevice(1))
        def other():
            mine = c_int32(7)
            codes.append(acl.aclrtGetDevice(byref(mine)))
            ok(acl.aclrtSetDevice(0))
        codes = []
        thread = threading.Thread(target=other)
        thread.start(), thread.join()
        ok(acl.aclrtGetDevice(byref(device)))
        assert (codes, device.value) == ([107002], 1)
        """,
        runtime=True,
    ).succeeded()


def test_a_context_brings_its_device(emulated):
    """Setting a context makes its device current; what is no context is refused; a device is active once it was set."""
    emulated(
        """
        ok(acl.aclrtSetDevice(1))
        context, device, active = c_void_p(), c_int32(), c_int32()
        ok(acl.aclrtGetCurrentContext(byref(context)))
        ok(acl.aclrtGetPrimaryCtxState(0, None, byref(active)))
        assert not active.value
        ok(acl.aclrtSetDevice(0))
        ok(acl.aclrtSetCurrentContext(context))
        ok(acl.aclrtGetDevice(byref(device)))
        assert device.value == 1
        ok(acl.aclrtGetPrimaryCtxState(0, None, byref(active)))
        assert active.value
        assert acl.aclrtSetCurrentContext(c_void_p(4096)) == 107002
        """,
        runtime=True,
    ).succeeded()


def test_peer_access(emulated):
    """A card reaches every other card's memory; the question about itself is answered with no."""
    emulated(
        """
        answer = c_int32(7)
        for card, peer, expected in ((0, 1, 1), (2, 0, 1), (1, 1, 0)):
            ok(acl.aclrtDeviceCanAccessPeer(byref(answer), card, peer))
            assert answer.value == expected
        ok(acl.aclrtSetDevice(0))
        ok(acl.aclrtDeviceEnablePeerAccess(1, 0))
        assert acl.aclrtDeviceEnablePeerAccess(0, 0) == 107001
        """,
        runtime=True,
        cards=3,
    ).succeeded()


# ---- memory ----


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
        import resource
        malloc(50 << 30)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 512 << 10
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


# ---- streams and events ----


@both_modes
def test_a_stream_executes_in_order(emulated, asynchronous):
    """Copies on one stream take place one after the other, whichever is slow."""
    emulated(
        """
        s, blocks = stream(), [malloc(4096) for _ in range(20)]
        upload(blocks[0], b"first")
        for source, destination in zip(blocks, blocks[1:]):
            ok(acl.aclrtMemcpyAsync(destination, 4096, source, 5, ON_DEVICE, s))
        ok(acl.aclrtSynchronizeStream(s))
        assert download(blocks[-1], 5) == b"first"
        """,
        runtime=True,
        asynchronous=asynchronous,
        faults="aclrtMemcpyAsync:delay=0.02@every=5",
    ).succeeded()


def test_an_asynchronous_stream_is_late(emulated):
    """In the asynchronous mode a copy returns before it took place; its stream and events say so until it has."""
    emulated(
        """
        s, mark, block, status = stream(), event(), malloc(4096), c_int32(7)
        upload(block, b"old")
        ok(acl.aclrtMemcpyAsync(block, 4096, b"new", 3, TO_DEVICE, s))
        ok(acl.aclrtRecordEvent(mark, s))
        assert download(block, 3) == b"old"
        ok(acl.aclrtStreamQuery(s, byref(status)))
        assert status.value == 1
        ok(acl.aclrtQueryEventStatus(mark, byref(status)))
        assert status.value == 0
        ok(acl.aclrtSynchronizeEvent(mark))
        assert download(block, 3) == b"new"
        ok(acl.aclrtQueryEventStatus(mark, byref(status)))
        assert status.value == 1
        ok(acl.aclrtSynchronizeStream(s))
        ok(acl.aclrtStreamQuery(s, byref(status)))
        assert status.value == 0
        """,
        runtime=True,
        asynchronous=1,
        faults="aclrtMemcpyAsync:delay=3",
    ).succeeded()


def test_streams_wait_for_events(emulated):
    """A stream that waits for an event of another does not overtake it; one that does not wait does."""
    emulated(
        """
        slow, waiting, hasty = stream(), stream(), stream()
        mark, source, first, second = event(), malloc(4096), malloc(4096), malloc(4096)
        upload(source, b"old")
        ok(acl.aclrtMemcpyAsync(source, 4096, b"new!", 4, TO_DEVICE, slow))
        ok(acl.aclrtRecordEvent(mark, slow))
        ok(acl.aclrtStreamWaitEvent(waiting, mark))
        ok(acl.aclrtMemcpyAsync(first, 4096, source, 3, ON_DEVICE, waiting))
        ok(acl.aclrtMemcpyAsync(second, 4096, source, 3, ON_DEVICE, hasty))
        ok(acl.aclrtSynchronizeDevice())
        assert (download(first, 3), download(second, 3)) == (b"new", b"old")
        """,
        runtime=True,
        asynchronous=1,
        faults="aclrtMemcpyAsync:delay=3@min-numel=4",
    ).succeeded()


def test_a_synchronisation_can_run_out_of_time(emulated):
    """A synchronisation with a timeout fails when the stream is still at work, and names what it is executing."""
    emulated(
        """
        s, block = stream(), malloc(4096)
        ok(acl.aclrtMemcpyAsync(block, 4096, b"new", 3, TO_DEVICE, s))
        assert acl.aclrtSynchronizeStreamWithTimeout(s, 100) == 507046
        assert "still executing aclrtMemcpyAsync after 100 ms" in error()
        assert acl.aclrtSynchronizeDeviceWithTimeout(100) == 507046
        ok(acl.aclrtSynchronizeStreamWithTimeout(s, 60000))
        """,
        runtime=True,
        asynchronous=1,
        faults="aclrtMemcpyAsync:delay=2",
    ).succeeded()


def test_a_failed_stream_stops(emulated):
    """An asynchronous failure comes out of every later synchronisation; what follows on the stream is dropped."""
    emulated(
        """
        s, other, mark, block = stream(), stream(), event(), malloc(4096)
        upload(block, b"old")
        ok(acl.aclrtMemcpyAsync(block, 4096, b"one", 3, TO_DEVICE, s))
        ok(acl.aclrtMemcpyAsync(block, 4096, b"two", 3, TO_DEVICE, s))
        ok(acl.aclrtRecordEvent(mark, s))
        for _ in range(2):
            assert acl.aclrtSynchronizeStream(s) == 507015
            assert error().startswith("aclrtMemcpyAsync: injected by the fault")
        assert acl.aclrtSynchronizeEvent(mark) == 507015
        assert acl.aclrtSynchronizeDevice() == 507015
        ok(acl.aclrtSynchronizeStream(other))
        assert download(block, 3) == b"old"
        """,
        runtime=True,
        asynchronous=1,
        faults="aclrtMemcpyAsync:fail=507015@call=1",
    ).succeeded()


@both_modes
@pytest.mark.parametrize("queue", [0, 1])
def test_torch_names_the_operator_that_failed(emulated, asynchronous, queue):
    """A failing operator is a RuntimeError, at the next synchronisation at the latest, that names the operator."""
    run = emulated(
        """
        import torch
        x = torch.ones(4, device="npu")
        torch.npu.synchronize()
        try:
            y = x * 2
            torch.npu.synchronize()
        except RuntimeError as error:
            print(str(error).replace(chr(10), " "))
        """,
        asynchronous=asynchronous,
        faults="aclnnMul*:fail=507015",
        environment={"TASK_QUEUE_ENABLE": str(queue)},
    ).succeeded()

    assert "aclnnMuls" in run.stdout
    assert "aclnnMuls: injected by the fault aclnnMul*:fail=507015" in run.stdout + run.stderr


@both_modes
def test_event_times(emulated, asynchronous):
    """The time between two events is that in which the stream worked between them; an unrecorded event has none."""
    emulated(
        """
        s, first, second, never, block, elapsed = stream(), event(), event(), event(), malloc(4096), c_float(-1)
        assert acl.aclrtEventElapsedTime(byref(elapsed), first, never) == 107006
        ok(acl.aclrtRecordEvent(first, s))
        ok(acl.aclrtMemcpyAsync(block, 4096, b"new", 3, TO_DEVICE, s))
        ok(acl.aclrtRecordEvent(second, s))
        ok(acl.aclrtSynchronizeEvent(second))
        ok(acl.aclrtEventElapsedTime(byref(elapsed), first, second))
        assert elapsed.value >= 200
        assert acl.aclrtEventElapsedTime(byref(elapsed), first, never) == 107006
        """,
        runtime=True,
        asynchronous=asynchronous,
        faults="aclrtMemcpyAsync:delay=0.2",
    ).succeeded()


def test_destroyed_handles_are_errors(emulated):
    """A stream or an event that was destroyed, or never was one, is refused."""
    emulated(
        """
        s, mark, status = stream(), event(), c_int32()
        ok(acl.aclrtDestroyStream(s))
        ok(acl.aclrtDestroyEvent(c_void_p(mark)))
        assert acl.aclrtSynchronizeStream(s) == 107003
        assert acl.aclrtDestroyStream(s) == 107003
        assert acl.aclrtRecordEvent(mark, None) == 107000
        assert acl.aclrtStreamQuery(4096, byref(status)) == 107003
        """,
        runtime=True,
    ).succeeded()


def test_a_process_with_queued_work_ends(emulated):
    """A process that ends while a stream has work left does end, and its exit code is the program's."""
    run = emulated(
        """
        s, block = stream(), malloc(4096)
        for _ in range(1000):
            ok(acl.aclrtMemcpyAsync(block, 4096, b"new", 3, TO_DEVICE, s))
        raise SystemExit(3)
        """,
        runtime=True,
        asynchronous=1,
        faults="aclrtMemcpyAsync:delay=1",
        deadline=30,
    )

    assert run.returncode == 3


def test_a_fork_does_not_wait_for_the_streams_of_its_parent(emulated):
    """A forked child has none of its parent's streams: it cannot use them, and does not wait for them for ever."""
    emulated(
        """
        import os
        s, mark, block = stream(), event(), malloc(4096)
        ok(acl.aclrtMemcpyAsync(block, 4096, b"new", 3, TO_DEVICE, s))
        ok(acl.aclrtRecordEvent(mark, s))
        child = os.fork()
        if child == 0:
            ok(acl.aclrtSynchronizeStream(s))
            ok(acl.aclrtSynchronizeEvent(mark))
            ok(acl.aclrtSynchronizeDevice())
            assert acl.aclrtMemcpyAsync(block, 4096, b"new", 3, TO_DEVICE, s) == 507000
            os._exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        ok(acl.aclrtSynchronizeStream(s))
        assert download(block, 3) == b"new"
        """,
        runtime=True,
        asynchronous=1,
        faults="aclrtMemcpyAsync:delay=1",
        deadline=30,
    ).succeeded()


@both_modes
def test_data_loader_workers_after_the_card_was_used(emulated, asynchronous):
    """Worker processes that DataLoader forks after the card was used load batches, and everything ends cleanly."""
    emulated(
        """
        import torch
        from torch.utils.data import DataLoader
        x = torch.ones(4, device="npu")
        data = torch.arange(32.0)
        loader = DataLoader(data, batch_size=4, num_workers=2, pin_memory=True, multiprocessing_context="fork")
        total = sum(batch.to("npu", non_blocking=True).mul(2).cpu().sum().item() for batch in loader)
        assert total == 2 * sum(range(32)), total
        """,
        asynchronous=asynchronous,
    ).succeeded()


# ---- overflow mode, and what the emulator does not have ----


def test_overflow_mode_and_flag(emulated):
    """The overflow mode is what was set last; another value is refused; the status flag is clear at first."""
    emulated(
        """
        mode, block = c_int32(7), malloc(64)
        for value in (0, 1):
            ok(acl.aclrtSetDeviceSatMode(value))
            ok(acl.aclrtGetDeviceSatMode(byref(mode)))
            assert mode.value == value
        assert acl.aclrtSetDeviceSatMode(2) == 107000
        acl.aclrtGetOverflowStatus.argtypes = [c_void_p, c_size_t, c_void_p]
        ok(acl.aclrtGetOverflowStatus(block, 64, None))
        assert download(block, 64) == bytes(64)
        """,
        runtime=True,
    ).succeeded()


def test_what_is_not_there_says_so(emulated):
    """A feature that the emulator does not have fails with CANN's code for that, and names itself."""
    emulated(
        """
        handle = c_void_p()
        for words, name, *arguments in (
            ("events shared between processes", "aclrtCreateEventExWithFlag", byref(handle), 0x40),
            ("dumps of operators", "aclmdlInitDump"),
            ("compiled kernels", "rtKernelLaunch", None),
            ("device memory shared between processes", "aclrtMemExportToShareableHandle", None),
        ):
            assert getattr(acl, name)(*arguments) == 207000
            assert f"{name}: the emulator has no {words}" in error()
        """,
        runtime=True,
    ).succeeded()

"""Streams and events of the emulated runtime, in both modes."""

import pytest

both_modes = pytest.mark.parametrize("asynchronous", [0, 1], ids=["inline", "asynchronous"])


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
    """A failing operator is a RuntimeError, at the next synchronisation at the latest, that names the operator.

    Where torch_npu's queue learns of it, it may be a later one: the queue is empty a moment before it says so.
    """
    run = emulated(
        """
        import torch
        x, passed = torch.ones(4, device="npu"), 0
        torch.npu.synchronize()
        try:
            y = x * 2
            while True:
                torch.npu.synchronize()
                passed += 1
        except RuntimeError as error:
            print(str(error).replace(chr(10), " "))
            print("synchronisations that passed:", passed)
        """,
        asynchronous=asynchronous,
        faults="aclnnMul*:fail=507015",
        environment={"TASK_QUEUE_ENABLE": str(queue)},
    ).succeeded()

    assert "aclnnMuls" in run.stdout
    if asynchronous or not queue:
        assert "synchronisations that passed: 0" in run.stdout
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

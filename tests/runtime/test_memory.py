"""Memory of the card: no leak, out of memory as an error to recover from, pinned memory, streams and events."""

import gc

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.small_training import SmallTraining

pytestmark = [pytest.mark.single_npu, pytest.mark.runtime]

MIB = 1 << 20
WARM_UP = 10


@pytest.fixture
def settled(npu):
    """settled() -> (allocated, reserved) bytes, after everything that nobody uses was given back to the card."""
    import torch

    def measure() -> tuple[int, int]:
        gc.collect()
        torch.npu.synchronize()
        torch.npu.empty_cache()
        return torch.npu.memory_allocated(), torch.npu.memory_reserved()

    return measure


@requirement("runtime/memory-no-leak", level="core")
def test_training_does_not_leak(train, settled, evidence):
    """Over more than a hundred training steps allocated and reserved memory stay where the first steps brought them."""
    settled()

    measured = train(SmallTraining(steps=120), fresh=True)

    for kind in ("allocated", "reserved"):
        after = measured.details[kind][WARM_UP:]
        evidence.check_equal(f"{kind} bytes, lowest and highest", (min(after), max(after)), (after[0], after[0]))


@requirement("runtime/memory-returns", level="core")
def test_memory_returns_to_the_card(npu, settled, evidence):
    """What was allocated is counted, and after it is deleted and the cache emptied the card has it again."""
    import torch

    size = 64 * MIB

    def cycle() -> dict:
        base, free = settled(), torch.npu.mem_get_info()[0]
        tensors = [torch.ones(size // 4, device="npu") for _ in range(4)]
        torch.npu.synchronize()
        held = torch.npu.memory_allocated() - base[0], torch.npu.memory_reserved() - base[1]
        taken = free - torch.npu.mem_get_info()[0]
        total = sum(tensor.sum().item() for tensor in tensors)
        del tensors
        after = settled()
        return {"held": held, "taken": taken, "sum": total, "back": (after[0] - base[0], after[1] - base[1])} | {
            "missing": free - torch.npu.mem_get_info()[0]
        }

    cycle()  # the card's own workspaces come into being
    seen = cycle()

    evidence.add(**seen)
    evidence.check_equal("sum of what was stored", seen["sum"], float(size))
    assert seen["held"][0] >= 4 * size
    assert seen["held"][1] >= 4 * size
    evidence.check_below("bytes taken less than held", seen["held"][1] - seen["taken"], 2 * MIB, "one page of 2 MiB")
    evidence.check_equal("allocated and reserved bytes that are left", seen["back"], (0, 0))
    evidence.check_below("bytes that the card misses", seen["missing"], 2 * MIB, "one page of 2 MiB")


@requirement("runtime/memory-peak", level="core")
def test_peak_memory_is_tracked(npu, settled, evidence):
    """The peak counts what was held at once, survives its deletion, and begins anew when it is reset."""
    import torch

    settled()
    torch.npu.reset_peak_memory_stats()
    base = torch.npu.memory_allocated()

    tensor = torch.zeros(16 * MIB, dtype=torch.uint8, device="npu")
    peak_while_held = torch.npu.max_memory_allocated() - base
    del tensor
    peak_after = torch.npu.max_memory_allocated() - base
    torch.npu.reset_peak_memory_stats()

    evidence.add(peak=peak_while_held)
    assert peak_while_held >= 16 * MIB
    evidence.check_equal("peak after the deletion", peak_after, peak_while_held)
    evidence.check_equal("peak after the reset", torch.npu.max_memory_allocated(), torch.npu.memory_allocated())


@requirement("runtime/out-of-memory-of-the-allocator", level="core")
def test_out_of_memory_can_be_caught(npu, settled, evidence):
    """An allocation beyond the card is a torch.OutOfMemoryError; afterwards the card computes and has lost nothing."""
    import torch

    base, total = settled(), torch.npu.mem_get_info()[1]

    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        torch.empty(2 * total, dtype=torch.uint8, device="npu")

    answer = (torch.full((64, 64), 3.0, device="npu") @ torch.full((64, 64), 2.0, device="npu")).cpu()
    evidence.check_equal("a product after the error", answer, torch.full((64, 64), 384.0))
    evidence.check_equal("allocated and reserved bytes", settled(), base)


@requirement("accelerate/find-executable-batch-size", level="core")
def test_batch_size_that_fits_is_found(npu, settled, evidence):
    """The function find_executable_batch_size tries smaller and smaller batches until one fits into the card."""
    import torch
    from accelerate.utils import find_executable_batch_size

    settled()
    # A piece is a third of what is free, so that two fit and four do not.
    piece = torch.npu.mem_get_info()[0] // 3
    tried = []

    @find_executable_batch_size(starting_batch_size=4)
    def train(batch_size: int) -> int:
        tried.append(batch_size)
        memory = torch.empty(batch_size * piece, dtype=torch.uint8, device="npu")
        return memory.numel() // piece

    evidence.check_equal("batch size that fits", train(), 2)
    evidence.check_equal("batch sizes tried", tried, [4, 3, 2])


@requirement("runtime/pinned-memory", level="core")
def test_pinned_memory_is_copied(npu, evidence):
    """Tensors in pinned memory say so, and copies from and to them that do not block have the right values."""
    import torch

    values = torch.arange(1 << 20, dtype=torch.float32)
    pinned = values.pin_memory()

    there = pinned.to("npu", non_blocking=True)
    doubled = there * 2
    back = torch.empty(values.shape, pin_memory=True)
    back.copy_(doubled, non_blocking=True)
    torch.npu.current_stream().synchronize()

    evidence.check_equal("pinned", [pinned.is_pinned(), back.is_pinned(), values.is_pinned()], [True, True, False])
    evidence.check_equal("on the card", there.cpu(), values)
    evidence.check_equal("and back", back, values * 2)


@requirement("runtime/streams", level="core")
def test_streams_wait_for_each_other(npu, evidence):
    """Work on a side stream that waits for another sees its results, and the other way round, also by an event."""
    import torch

    side, event = torch.npu.Stream(), torch.npu.Event()
    main = torch.npu.current_stream()
    seen = []
    for number in range(8):
        source = torch.full((1 << 18,), float(number), device="npu")
        for _ in range(4):
            source = source + 1
        side.wait_stream(main)
        with torch.npu.stream(side):
            assert torch.npu.current_stream() == side
            product = source * 2
            source.record_stream(side)
            event.record()
        event.wait(main) if number % 2 else main.wait_stream(side)
        seen.append((product + 1).sum().item() / (1 << 18))

    evidence.check_equal("values", seen, [2.0 * (number + 4) + 1 for number in range(8)])
    evidence.check_equal("current stream afterwards", torch.npu.current_stream() == main, True)


@requirement("runtime/events", level="core")
def test_events_tell_order_and_time(npu, evidence):
    """A recorded event is complete after it was waited for, and the time between two events is positive and finite."""
    import torch

    begin, end = torch.npu.Event(enable_timing=True), torch.npu.Event(enable_timing=True)

    begin.record()
    x = torch.ones(256, 256, device="npu")
    for _ in range(20):
        x = x @ x / 256
    end.record()
    end.synchronize()

    evidence.check_equal("complete", [begin.query(), end.query()], [True, True])
    milliseconds = begin.elapsed_time(end)
    evidence.add(milliseconds=milliseconds)
    assert 0 < milliseconds < 60_000
    evidence.check_equal("result", x.cpu(), torch.ones(256, 256))

"""Every collective of torch.distributed on this card (A2 or A3), against what the CPU makes of all ranks' inputs.

    python -m emulator torchrun --standalone --nproc-per-node 2 meta_tests/emulator/ranks_of_collectives.py

Each rank prints what went wrong, or, with --report DIRECTORY, writes {check: what went wrong} to DIRECTORY/<rank>.json.
"""

import argparse
import functools
import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed import ReduceOp

REAL = (torch.float32, torch.float16, torch.bfloat16)
WHOLE = (torch.int8, torch.int16, torch.int32, torch.int64)
DTYPES = (*REAL, *WHOLE, torch.uint8, torch.bool)
SHAPES = ((1,), (), (3, 5), (0,), (2, 0, 3))
LARGE = 600_001  # elements: more than the emulator passes on in one step, of any dtype but int8
REDUCTIONS = {
    ReduceOp.SUM: torch.add,
    ReduceOp.PRODUCT: torch.mul,
    ReduceOp.MAX: torch.maximum,
    ReduceOp.MIN: torch.minimum,
}

RANK, WORLD = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
CHECKS: list[Callable[[], None]] = []


def check(function):
    """Registers a check."""
    CHECKS.append(function)
    return function


def card() -> str:
    return f"npu:{RANK % torch.npu.device_count()}"


def given(rank: int, shape=(3, 5), dtype=torch.float32, salt: int = 0) -> torch.Tensor:
    """The input of a rank, on the CPU: the same on whichever rank it is computed."""
    generator = torch.Generator().manual_seed(1000 * salt + rank)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2 if dtype == torch.bool else 5, shape, generator=generator).to(dtype)


def of_all(shape=(3, 5), dtype=torch.float32, salt: int = 0, ranks=None) -> list[torch.Tensor]:
    return [given(rank, shape, dtype, salt) for rank in (range(WORLD) if ranks is None else ranks)]


def reduced(inputs: list[torch.Tensor], reduction=ReduceOp.SUM) -> torch.Tensor:
    """The inputs combined one after the other, each result rounded to their dtype."""
    if inputs[0].dtype in (torch.bool, torch.uint8):  # which torch_npu reduces as int32
        wide = [each.int() for each in inputs]
        both = ReduceOp.MAX if inputs[0].dtype == torch.bool and reduction == ReduceOp.SUM else reduction
        return functools.reduce(REDUCTIONS[both], wide).to(inputs[0].dtype)
    return functools.reduce(REDUCTIONS[reduction], inputs)


def equal(measured: torch.Tensor, expected: torch.Tensor, what: str = "") -> None:
    """Raises AssertionError unless both have the same bits."""
    measured = measured.cpu()
    assert measured.dtype == expected.dtype, (what, measured.dtype, expected.dtype)
    assert measured.shape == expected.shape, (what, measured.shape, expected.shape)
    assert torch.equal(measured, expected), f"{what}: {measured.flatten()[:8]} instead of {expected.flatten()[:8]}"


def refused(call: Callable[[], None], complaint: str) -> None:
    """Raises AssertionError unless the call raises an error with these words."""
    try:
        call()
    except (RuntimeError, ValueError) as error:
        text = str(error)
    else:
        text = "no error at all"
    assert complaint in text, f"{text} instead of: {complaint}"


@check
def all_reduce():
    for dtype, shape, reduction in itertools.product(DTYPES, SHAPES, REDUCTIONS):
        if reduction == ReduceOp.PRODUCT and dtype in (torch.int16, torch.bfloat16):
            continue  # not on this chip
        tensor = given(RANK, shape, dtype).to(card())
        dist.all_reduce(tensor, reduction)
        equal(tensor, reduced(of_all(shape, dtype), reduction), f"{dtype} {shape} {reduction}")


@check
def collectives_of_several_steps():
    mine, everything = given(RANK, (LARGE,)), of_all((LARGE,))
    for dtype in torch.float32, torch.bfloat16:
        tensor = mine.to(card(), dtype)
        dist.all_reduce(tensor)
        equal(tensor, reduced([each.to(dtype) for each in everything]), f"all_reduce {dtype}")
    tensor = mine.to(card())
    dist.broadcast(tensor, WORLD - 1)
    equal(tensor, everything[-1], "broadcast")
    tensor = mine.to(card())
    dist.reduce(tensor, WORLD - 1)
    equal(tensor, reduced(everything) if RANK == WORLD - 1 else mine, "reduce")
    whole = torch.empty(WORLD * LARGE, device=card())
    dist.all_gather_into_tensor(whole, mine.to(card()))
    equal(whole, torch.cat(everything), "all_gather_into_tensor")
    part = torch.empty(LARGE, device=card())
    dist.reduce_scatter_tensor(part, whole)
    equal(part, everything[RANK] * WORLD, "reduce_scatter_tensor")
    exchanged = torch.empty_like(whole)
    dist.all_to_all_single(exchanged, whole)
    equal(exchanged, everything[RANK].repeat(WORLD), "all_to_all_single")
    dist.scatter(part, list(whole.chunk(WORLD)) if RANK == 0 else None, 0)
    equal(part, mine, "scatter")


@check
def all_reduce_average():
    for dtype in REAL:
        tensor = given(RANK, dtype=dtype).to(card())
        dist.all_reduce(tensor, ReduceOp.AVG)
        equal(tensor, reduced(of_all(dtype=dtype)) / WORLD, str(dtype))


@check
def all_reduce_refuses_what_hccl_does_not_reduce():
    refused(lambda: dist.all_reduce(torch.ones(2, dtype=torch.float64, device=card())), "Unsupported data type")
    refused(lambda: dist.all_reduce(torch.ones(2, dtype=torch.int32, device=card()), ReduceOp.BAND), "ReduceOp.BAND")
    refused(lambda: dist.all_reduce(given(RANK, (4, 6)).to(card()).t()), "contiguous")


@check
def all_reduce_of_part_of_a_tensor():
    whole = given(RANK, (6, 5)).to(card())
    dist.all_reduce(whole[2:4])
    expected = given(RANK, (6, 5))
    expected[2:4] = reduced([each[2:4] for each in of_all((6, 5))])
    equal(whole, expected)


@check
def all_reduce_coalesced():
    tensors = [given(RANK, shape, salt=i).to(card()) for i, shape in enumerate(SHAPES)]
    dist.all_reduce_coalesced(tensors)
    for i, (tensor, shape) in enumerate(zip(tensors, SHAPES, strict=True)):
        equal(tensor, reduced(of_all(shape, salt=i)), str(shape))


@check
def broadcast():
    for dtype, shape, root in itertools.product((*DTYPES, torch.float64), SHAPES, range(WORLD)):
        tensor = given(RANK, shape, dtype).to(card())
        dist.broadcast(tensor, root)
        equal(tensor, given(root, shape, dtype), f"{dtype} {shape} {root}")


@check
def all_gather():
    for dtype, shape in itertools.product((*DTYPES, torch.float64), SHAPES):
        parts = [torch.empty(shape, dtype=dtype, device=card()) for _ in range(WORLD)]
        dist.all_gather(parts, given(RANK, shape, dtype).to(card()))
        for rank, part in enumerate(parts):
            equal(part, given(rank, shape, dtype), f"{dtype} {shape} of {rank}")


@check
def all_gather_of_different_sizes():
    parts = [torch.empty(rank + 1, 3, device=card()) for rank in range(WORLD)]
    dist.all_gather(parts, given(RANK, (RANK + 1, 3)).to(card()))
    for rank, part in enumerate(parts):
        equal(part, given(rank, (rank + 1, 3)), str(rank))


@check
def all_gather_into_tensor():
    for dtype, shape in itertools.product((*DTYPES, torch.float64), ((1,), (3, 5), (0,))):
        result = torch.empty((WORLD * shape[0], *shape[1:]), dtype=dtype, device=card())
        dist.all_gather_into_tensor(result, given(RANK, shape, dtype).to(card()))
        equal(result, torch.cat(of_all(shape, dtype)), f"{dtype} {shape}")


@check
def reduce():
    for dtype, root in itertools.product(DTYPES, range(WORLD)):
        tensor = given(RANK, dtype=dtype).to(card())
        dist.reduce(tensor, root)
        equal(tensor, reduced(of_all(dtype=dtype)) if root == RANK else given(RANK, dtype=dtype), f"{dtype} {root}")


@check
def reduce_scatter():
    for dtype, reduction in itertools.product((*REAL, *WHOLE), (ReduceOp.SUM, ReduceOp.MAX)):
        parts = [given(RANK, dtype=dtype, salt=rank).to(card()) for rank in range(WORLD)]
        result = torch.empty(3, 5, dtype=dtype, device=card())
        dist.reduce_scatter(result, parts, reduction)
        equal(result, reduced(of_all(dtype=dtype, salt=RANK), reduction), f"{dtype} {reduction}")


@check
def reduce_scatter_of_different_sizes():
    parts = [given(RANK, (rank + 1, 3), salt=rank).to(card()) for rank in range(WORLD)]
    result = torch.empty(RANK + 1, 3, device=card())
    dist.reduce_scatter(result, parts)
    equal(result, reduced(of_all((RANK + 1, 3), salt=RANK)))


@check
def reduce_scatter_tensor():
    for dtype, rows in itertools.product((*REAL, *WHOLE), (1, 3, 0)):
        result = torch.empty(rows, 2, dtype=dtype, device=card())
        dist.reduce_scatter_tensor(result, given(RANK, (WORLD * rows, 2), dtype).to(card()))
        expected = reduced(of_all((WORLD * rows, 2), dtype))[RANK * rows : (RANK + 1) * rows]
        equal(result, expected, f"{dtype} {rows}")


@check
def scatter():
    for dtype, root in itertools.product((torch.float32, torch.bfloat16, torch.int64), range(WORLD)):
        result = torch.empty(3, 5, dtype=dtype, device=card())
        parts = [given(root, dtype=dtype, salt=rank).to(card()) for rank in range(WORLD)]
        dist.scatter(result, parts if root == RANK else None, root)
        equal(result, given(root, dtype=dtype, salt=RANK), f"{dtype} {root}")


@check
def gather():
    for root in range(WORLD):
        parts = [torch.empty(3, 5, device=card()) for _ in range(WORLD)]
        dist.gather(given(RANK).to(card()), parts if root == RANK else None, root)
        for rank, part in enumerate(parts if root == RANK else []):
            equal(part, given(rank), f"{root} {rank}")


@check
def all_to_all_single():
    for dtype, rows in itertools.product((*DTYPES, torch.float64), (1, 0, 2)):
        result = torch.empty(WORLD * rows, 2, dtype=dtype, device=card())
        dist.all_to_all_single(result, given(RANK, (WORLD * rows, 2), dtype).to(card()))
        pieces = [each[RANK * rows : (RANK + 1) * rows] for each in of_all((WORLD * rows, 2), dtype)]
        equal(result, torch.cat(pieces), f"{dtype} {rows}")


@check
def all_to_all_single_of_different_sizes():
    def rows(sender, receiver):
        return (sender + 2 * receiver) % 3

    def start(sender, receiver):
        return sum(rows(sender, other) for other in range(receiver))

    to, origins = [rows(RANK, other) for other in range(WORLD)], [rows(other, RANK) for other in range(WORLD)]
    result = torch.empty(sum(origins), 2, device=card())
    dist.all_to_all_single(result, given(RANK, (sum(to), 2)).to(card()), origins, to)
    inputs = [given(rank, (start(rank, WORLD), 2)) for rank in range(WORLD)]
    pieces = [each[start(rank, RANK) : start(rank, RANK + 1)] for rank, each in enumerate(inputs)]
    equal(result, torch.cat(pieces))


@check
def all_to_all():
    results = [torch.empty(rank + 1, device=card()) for rank in range(WORLD)]
    dist.all_to_all(results, [given(RANK, (RANK + 1,), salt=rank).to(card()) for rank in range(WORLD)])
    for rank, result in enumerate(results):
        equal(result, given(rank, (rank + 1,), salt=RANK), str(rank))


@check
def send_and_receive():
    for dtype, shape in itertools.product((torch.float32, torch.bool, torch.float64), ((3, 5), (0,), (LARGE,))):
        if RANK == 0:
            dist.send(given(0, shape, dtype).to(card()), WORLD - 1)
        elif RANK == WORLD - 1:
            result = torch.empty(shape, dtype=dtype, device=card())
            dist.recv(result, 0)
            equal(result, given(0, shape, dtype), f"{dtype} {shape}")


@check
def batch_of_messages():
    following, previous = (RANK + 1) % WORLD, (RANK - 1) % WORLD
    for shape in ((3, 5), (LARGE,)):
        result = torch.empty(shape, device=card())
        messages = [
            dist.P2POp(dist.isend, given(RANK, shape).to(card()), following),
            dist.P2POp(dist.irecv, result, previous),
        ]
        for work in dist.batch_isend_irecv(messages):
            work.wait()
        equal(result, given(previous, shape), str(shape))


@check
def coalesced_messages():
    others = [rank for rank in range(WORLD) if rank != RANK]
    results = {rank: torch.empty(3, 5, device=card()) for rank in others}
    with dist._coalescing_manager(device=torch.device(card()), async_ops=True) as works:
        for rank in others:  # in an order in which one message after the other would wait for ever
            dist.isend(given(RANK, salt=rank).to(card()), rank)
        for rank in others:
            dist.irecv(results[rank], rank)
    works.wait()
    for rank, result in results.items():
        equal(result, given(rank, salt=RANK), str(rank))


@check
def asynchronous_collectives():
    tensors = [given(RANK, (1000,), salt=i).to(card()) for i in range(5)]
    for work in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
        work.wait()
    for i, tensor in enumerate(tensors):
        equal(tensor, reduced(of_all((1000,), salt=i)), str(i))


@check
def groups():
    halves = [list(range(0, WORLD, 2)), list(range(1, WORLD, 2))]
    members = halves[RANK % 2]
    group = [dist.new_group(half) for half in halves][RANK % 2]
    everyone = dist.new_group(list(reversed(range(WORLD))))
    alone = [dist.new_group([rank]) for rank in range(WORLD)][RANK]
    for _ in range(3):
        first, second, third, fourth = (given(RANK, salt=salt).to(card()) for salt in range(4))
        works = [
            dist.all_reduce(first, group=group, async_op=True),
            dist.broadcast(second, WORLD - 1, group=everyone, async_op=True),
            dist.all_reduce(third, async_op=True),
            dist.all_reduce(fourth, group=alone, async_op=True),
        ]
        for work in works:
            work.wait()
        equal(first, reduced(of_all(salt=0, ranks=members)), "half")
        equal(second, given(WORLD - 1, salt=1), "everyone")
        equal(third, reduced(of_all(salt=2)), "world")
        equal(fourth, given(RANK, salt=3), "alone")
    dist.destroy_process_group(group)


@check
def objects():
    gathered = [None] * WORLD
    dist.all_gather_object(gathered, {"rank": RANK, "list": [1] * RANK})
    assert gathered == [{"rank": rank, "list": [1] * rank} for rank in range(WORLD)], gathered
    shared = [{"root": RANK}, "text" * 1000] if RANK == 0 else [None, None]
    dist.broadcast_object_list(shared, 0)
    assert shared == [{"root": 0}, "text" * 1000]
    mine = [None]
    dist.scatter_object_list(mine, [f"for {rank}" for rank in range(WORLD)] if RANK == 0 else None, 0)
    assert mine == [f"for {RANK}"], mine
    collected = [None] * WORLD if RANK == 0 else None
    dist.gather_object(RANK, collected, 0)
    assert collected == (list(range(WORLD)) if RANK == 0 else None), collected


@check
def barrier():
    for _ in range(3):
        dist.barrier()


@check
def data_parallel_step():
    torch.manual_seed(RANK)  # DDP gives all ranks the weights of rank 0
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1)).to(card())
    parallel = torch.nn.parallel.DistributedDataParallel(model, device_ids=[torch.npu.current_device()])
    reference = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
    reference.load_state_dict({name: value.cpu() for name, value in model.state_dict().items()})
    both = [torch.optim.SGD(each.parameters(), lr=0.1, momentum=0.9) for each in (model, reference)]
    for step in range(3):
        for optimizer in both:
            optimizer.zero_grad()
        parallel(given(RANK, (4, 8), salt=step).to(card())).square().mean().backward()
        reference(torch.cat(of_all((4, 8), salt=step))).square().mean().backward()
        for optimizer in both:
            optimizer.step()
    for (name, value), expected in zip(model.state_dict().items(), reference.state_dict().values(), strict=True):
        torch.testing.assert_close(value.cpu(), expected, msg=name)
        copies = [torch.empty_like(value) for _ in range(WORLD)]
        dist.all_gather(copies, value)
        for copy in copies:
            equal(copy, value.cpu(), name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    torch.npu.set_device(card())
    dist.init_process_group("hccl")
    report = {}
    for function in CHECKS:
        try:
            function()
            torch.npu.synchronize()
            report[function.__name__] = ""
        except Exception:
            report[function.__name__] = traceback.format_exc()
    if arguments.report:
        (arguments.report / f"{RANK}.json").write_text(json.dumps(report))
    else:
        failures = [f"{name}: {text}" for name, text in report.items() if text]
        sys.stdout.write("\n".join([f"rank {RANK}: {len(report)} checks, {len(failures)} failed", *failures, ""]))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

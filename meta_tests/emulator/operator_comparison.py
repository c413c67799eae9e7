"""One sample of an operator on the emulated card against the CPU: results, gradients, variants, untouched memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.testing._internal.opinfo.core import OpInfo, SampleInput
from torch.utils._pytree import tree_leaves

from meta_tests.emulator import operator_samples
from meta_tests.emulator.operator_findings import Finding
from meta_tests.emulator.operator_samples import Stored
from meta_tests.emulator.result_comparison import Mismatch, check_equal, plain

UNINITIALISED = frozenset(
    (
        "empty",
        "empty_like",
        "empty_permuted",
        "empty_strided",
        "new_empty",
        "new_empty_strided",
        "resize_",
        "resize_as_",
    )
)
"""Operators whose numbers are whatever was in memory: only shape and dtype are compared."""


@dataclass
class Run:
    """An operator on one device: its arguments, and its result or the exception that it raised."""

    arguments: tuple
    stored: list[Stored]
    buffers: list[torch.Tensor]
    tensors: list[torch.Tensor]
    result: Any = None
    failure: Exception | None = None


def run(
    function: Callable, sample: SampleInput, device: str, *, seed: int = 0, dtype: torch.dtype | None = None
) -> Run:
    """Calls the function with the stored sample on the device ("cpu" or "npu"), its random numbers seeded."""
    done = Run(*operator_samples.place(sample, device, dtype))
    first, args, kwargs = done.arguments
    torch.default_generator.manual_seed(seed)
    torch.npu.default_generators[0].manual_seed(seed)
    try:
        done.result = function(first, *args, **kwargs)
    except Exception as failure:  # whatever the operator raises is its outcome, which is compared
        done.failure = failure
    return done


def gradients(done: Run, sample: SampleInput, number: int) -> list[torch.Tensor | None]:
    """The gradients of a run's tensors for seeded cotangents, which are contiguous, expanded or transposed in turn."""
    outputs = [
        leaf
        for leaf in tree_leaves(sample.output_process_fn_grad(done.result))
        if isinstance(leaf, torch.Tensor) and leaf.requires_grad
    ]
    inputs = [tensor for tensor in done.tensors if tensor.requires_grad]
    generator = torch.Generator().manual_seed(number)
    cotangents = []
    for output in outputs:
        cotangent = torch.randn(output.shape, dtype=torch.float64, generator=generator).to(output.dtype)
        layout = ("own", "expanded", "transposed")[number % 3]
        relaid = operator_samples.in_layout(cotangent, layout)
        stored = operator_samples.as_stored(cotangent if relaid is None else relaid)
        cotangents.append(stored.on(output.device.type)[1])
    if not outputs:
        return [None] * len(inputs)
    return list(torch.autograd.grad(outputs, inputs, cotangents, allow_unused=True))


class Truth:
    """The operator's results and gradients on the CPU in float64, computed only where they are asked for."""

    def __init__(self, function: Callable, sample: SampleInput, number: int):
        self._function, self._sample, self._number = function, sample, number

    @cached_property
    def _run(self) -> Run:
        return run(self._function, self._sample, "cpu", dtype=torch.float64)

    @cached_property
    def _gradients(self) -> list | None:
        return None if self._run.failure else attempt(lambda: gradients(self._run, self._sample, self._number))

    def results(self) -> Any:
        """The results in float64, or None where the operator does not take it."""
        return self._run.result

    def arguments(self) -> list[torch.Tensor] | None:
        """The tensors among the arguments, as the operator leaves them, in float64; None where it does not take it."""
        return None if self._run.failure else self._run.tensors

    def gradients(self) -> list | None:
        """The gradients in float64, or None where the operator does not take it."""
        return self._gradients


def compare(
    operator: OpInfo,
    dtype: torch.dtype,
    number: int,
    layout: str,
    sample: SampleInput,
    watching: AbstractContextManager | None = None,
) -> Iterator[tuple[str, Finding | None]]:
    """Compares the operator on a stored sample: one (check, what differs or None) for each check made.

    Nothing is yielded where the CPU refuses the sample in this layout, or no argument says that the card is meant.

    Args:
        operator: PyTorch's description of the operator.
        dtype: of the sample.
        number: of the sample; it decides about cotangents and the layout of out=.
        layout: of `operator_samples.LAYOUTS`.
        sample: `operator_samples.stored` in this layout.
        watching: entered while the operator runs on the card the first time.
    """

    def outcome(check: str, judge: Callable[[], None]) -> tuple[str, Finding | None]:
        try:
            judge()
        except Mismatch as mismatch:
            message, error = str(mismatch), mismatch.error
        except Exception as failure:  # the card's operator failed where the CPU's did not
            message, error = f"{type(failure).__name__}: {failure}", None
        else:
            return check, None
        message = " ".join(message.split("\n[ERROR]")[0].split())[:300]
        name, described = str(dtype).removeprefix("torch."), operator_samples.describe(sample)
        return check, Finding(operator.formatted_name, name, check, message, number, layout, error, described)

    function = operator.op
    expected = run(function, sample, "cpu")
    if expected.failure is not None or not operator_samples.names_device(expected.arguments):
        return
    drew = not torch.equal(torch.default_generator.get_state(), SEEDED)
    is_random = drew and differs_with_seed(function, sample, "cpu", FEW_SEEDS)
    with watching or nullcontext():
        measured = run(function, sample, "npu")
    if is_random:
        yield outcome("random", lambda: check_random(function, sample, expected, measured))
        return
    values = operator.name not in UNINITIALISED
    truth = Truth(function, sample, number)
    yield outcome("forward", lambda: check_result(measured, expected, truth, values))
    if measured.failure is not None:
        return
    if values:
        yield outcome("inputs", lambda: check_arguments(measured, expected, truth))
        if layout != "special" and any(tensor.requires_grad for tensor in expected.tensors):
            wanted = attempt(lambda: gradients(expected, sample, number))
            if wanted is not None:
                yield outcome("backward", lambda: check_gradients(measured, wanted, truth, sample, number))
        with torch.no_grad():
            yield from compare_variants(operator, number, layout, sample, expected.result, truth, outcome)


def compare_variants(
    operator: OpInfo,
    number: int,
    layout: str,
    sample: SampleInput,
    result: Any,
    truth: Truth,
    outcome: Callable[[str, Callable[[], None]], tuple[str, Finding | None]],
) -> Iterator[tuple[str, Finding | None]]:
    """The in-place and the out= variant of the operator, where there are, against the CPU's."""
    in_place = operator.get_inplace()
    if in_place not in (None, operator.op) and layout != "expanded" and not sample.broadcasts_input:
        expected = run(in_place, sample, "cpu")
        if expected.failure is None:
            measured = run(in_place, sample, "npu")
            yield outcome("in-place", lambda: check_in_place(measured, expected, truth))
    into = writing(operator.op, result, number) if operator.supports_out else None
    if into is not None:
        wanted = into(sample, "cpu")
        if wanted.failure is None:
            written = into(sample, "npu")
            yield outcome("out", lambda: check_out(written, wanted, truth))


def attempt(function: Callable[[], Any]) -> Any:
    """What the function returns on the CPU, or None where it raises: the CPU is the judge of what an operator takes."""
    try:
        return function()
    except Exception:
        return None


SEEDED = torch.Generator().manual_seed(0).get_state()
"""The CPU generator's state after `run` has seeded it: another one after the run means that numbers were drawn."""


FEW_SEEDS, MANY_SEEDS = 6, 64
"""An operator is random if a few seeds do not all give one result on the CPU; on the card many must not."""


def differs_with_seed(function: Callable, sample: SampleInput, device: str, seeds: int) -> bool:
    """Whether the operator's result on this device depends on the seed."""
    first = run(function, sample, device)
    for seed in range(1, seeds):
        other = run(function, sample, device, seed=seed)
        if first.failure or other.failure:
            return False
        try:
            check_equal(other.result, first.result)
        except Mismatch:
            return True
    return False


def check_result(measured: Run, expected: Run, truth: Truth, values: bool) -> None:
    """The same result, on the card."""
    raise_failure(measured)
    check_equal(measured.result, expected.result, truth=truth.results, values=values, device="npu")


def check_gradients(measured: Run, expected: list, truth: Truth, sample: SampleInput, number: int) -> None:
    """The same gradients, on the card."""
    check_equal(gradients(measured, sample, number), expected, truth=truth.gradients, device="npu")


def check_arguments(measured: Run, expected: Run, truth: Truth) -> None:
    """The arguments were changed as on the CPU, which is mostly not at all, and nothing around them was."""
    for stored, found, wanted in zip(measured.stored, measured.tensors, expected.tensors, strict=True):
        if same_bits(stored.on("cpu")[1], wanted) and not same_bits(found, wanted):
            raise Mismatch(f"the argument of shape {list(wanted.shape)} was changed, which it is not on the CPU")
    check_equal(measured.tensors, expected.tensors, truth=truth.arguments)
    check_gaps(measured)


def check_in_place(measured: Run, expected: Run, truth: Truth) -> None:
    """The same result, in the memory of the first argument, and nothing around it written."""
    raise_failure(measured)
    check_equal(measured.result, expected.result, truth=truth.results, device="npu")
    check_equal(measured.arguments[0], expected.arguments[0], truth=truth.results)
    check_gaps(measured)


def check_out(measured: Run, expected: Run, truth: Truth) -> None:
    """The same numbers in the tensors given as out=, and nothing around them written."""
    raise_failure(measured)
    check_equal(measured.tensors, expected.tensors, truth=lambda: tree_leaves(truth.results()))
    check_gaps(measured)


def check_random(function: Callable, sample: SampleInput, expected: Run, measured: Run) -> None:
    """Random numbers of the right shape and dtype, which the seed decides."""
    raise_failure(measured)
    check_equal(measured.result, expected.result, values=False, device="npu")
    try:
        check_equal(run(function, sample, "npu").result, measured.result)
    except Mismatch as mismatch:
        raise Mismatch(f"not reproducible: the same seed gave another result ({mismatch})") from None
    if not differs_with_seed(function, sample, "npu", MANY_SEEDS):
        raise Mismatch(f"the seed has no effect: {MANY_SEEDS} seeds gave the same result")


def check_gaps(measured: Run) -> None:
    """What lies around the tensors in their buffers is as it was."""
    for stored, buffer in zip(measured.stored, measured.buffers, strict=True):
        if stored.fills_buffer:
            continue
        pair = [stored.on("cpu")[0], buffer.detach().cpu()]
        for each in pair:
            each.as_strided(stored.shape, stored.stride, stored.offset).zero_()
        if not same_bits(*pair):
            raise Mismatch(f"memory around the argument of shape {list(stored.shape)} was written")


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors have equal values, NaN being equal to itself."""
    a, b = plain(a), plain(b)
    return torch.equal(a, b) or (a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all()))


def raise_failure(done: Run) -> None:
    """Raises what the operator raised."""
    if done.failure is not None:
        raise done.failure


def writing(function: Callable, result: Any, number: int) -> Callable[[SampleInput, str], Run] | None:
    """A function that runs the operator with out= tensors shaped like `result`, in layouts that take turns.

    The run's tensors are the out= tensors. None where the results are not all tensors.
    """
    leaves = tree_leaves(result)
    if not leaves or not all(isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided for leaf in leaves):
        return None
    outs = []
    for leaf in leaves:
        filled = operator_samples.gaps(leaf, tuple(leaf.shape))
        # Transposed only as a matrix: PyTorch 2.13's CPU tril writes beyond an out= with inner batch dimensions.
        layouts = ("own", "strided", "offset", "transposed") if leaf.dim() <= 2 else ("own", "strided", "offset")
        relaid = operator_samples.in_layout(filled, layouts[number % len(layouts)])
        outs.append(operator_samples.as_stored(filled if relaid is None else relaid))

    def into(sample: SampleInput, device: str) -> Run:
        placed = [stored.on(device) for stored in outs]
        tensors = tuple(tensor for _, tensor in placed)
        out = tensors[0] if isinstance(result, torch.Tensor) else tensors
        done = run(lambda *args, **kwargs: function(*args, **kwargs, out=out), sample, device)
        done.stored, done.buffers, done.tensors = outs, [buffer for buffer, _ in placed], list(tensors)
        return done

    return into

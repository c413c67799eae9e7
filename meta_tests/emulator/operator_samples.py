"""The operators of PyTorch's own test suite and some more, their samples, and the layouts in which these are stored.

PyTorch describes each operator (`OpInfo`) with functions that make samples: broadcasting, 0-dim and empty tensors, all
optional arguments. `operators` lists them, `samples` makes them, and `stored` puts the tensors of a sample into
memory in one of the `LAYOUTS`, so that a kernel that ignores a stride or a storage offset shows.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch.testing._internal import common_methods_invocations as invocations
from torch.testing._internal.opinfo.core import OpInfo, SampleInput
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from meta_tests.emulator.further_operators import further_operators

DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "bool": torch.bool,
}

MOST_SAMPLES = 150
"""Per operator and dtype. Twenty operators have more (max_pool2d 1440, logspace 1201, ...): every n-th is taken."""

MOST_ELEMENTS = 100_000
"""Of a sample's tensors together. Only grid_sampler_3d has larger ones (18 of its 30), up to 5 million elements."""

LAYOUTS = ("own", "transposed", "strided", "offset", "expanded", "special")
"""How a sample's tensors lie in memory.

own: as the sample comes.
transposed: dimensions in reverse order (tensors of at least two dimensions).
strided: every second element of a larger buffer, which starts with a gap.
offset: contiguous, with a storage offset.
expanded: of the first argument, the first dimension that is longer than 1 has stride 0.
special: the first argument has NaN, infinities, zeros of both signs and large numbers among its values.
"""


def unseeded(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Stands in for a wrapper of PyTorch's that seeds the generators itself before it calls a random operator."""
    return function(*args, **kwargs)


invocations.wrapper_set_seed = unseeded


def operators() -> dict[str, OpInfo]:
    """All operators by name, with a suffix for the variants of one operator: {"nn_functional_gelu": ..., ...}."""
    described = [
        *invocations.op_db,
        *invocations.foreach_unary_op_db,
        *invocations.foreach_binary_op_db,
        *invocations.foreach_pointwise_op_db,
        *invocations.foreach_reduce_op_db,
        *invocations.foreach_other_op_db,
        *further_operators(),
    ]
    return {operator.formatted_name: operator for operator in described}


LIBRARIES = re.compile(
    r"(linalg|fft)\.|(cholesky(_solve|_inverse)?|geqrf|inverse|logdet|lu(_solve|_unpack)?|matrix_exp|ormqr|pca_lowrank|pinverse|qr"
    r"|(i?stft)|svd(_lowrank)?|triangular_solve|orgqr|nn\.functional\.ctc_loss)$"
)
"""Operators that LAPACK or an FFT library computes. They promise nothing for NaN and infinity (some crash), and an
expanded matrix is singular: these layouts are left out."""

NOT_ON_CPU = {(name, "expanded") for name in ("median", "nanmedian", "masked.median", "embedding_with_max_norm")}
"""(operator, layout) without a reference: for a tensor of stride 0, PyTorch 2.13's CPU kernel of the median reads
beyond it, and what an embedding writes in place is not defined."""


def takes(operator: OpInfo, dtype: torch.dtype) -> bool:
    """Whether the operator's CPU kernel, the reference, takes this dtype."""
    return dtype in operator.supported_dtypes("cpu")


def differentiates(operator: OpInfo, dtype: torch.dtype) -> bool:
    """Whether the operator's CPU kernel has a gradient in this dtype."""
    return dtype.is_floating_point and operator.supports_autograd and dtype in operator.supported_backward_dtypes("cpu")


def samples(operator: OpInfo, dtype: torch.dtype) -> Iterator[tuple[int, SampleInput]]:
    """The operator's samples on the CPU with their numbers, the same at every call, at most about `MOST_SAMPLES`."""
    torch.manual_seed(0)
    numpy.random.seed(0)
    random.seed(0)
    made = list(operator.sample_inputs("cpu", dtype, requires_grad=differentiates(operator, dtype)))
    for number in range(0, len(made), max(-(-len(made) // MOST_SAMPLES), 1)):
        leaves = tree_leaves((made[number].input, made[number].args, made[number].kwargs))
        if sum(leaf.numel() for leaf in leaves if isinstance(leaf, torch.Tensor)) <= MOST_ELEMENTS:
            yield number, made[number]


@dataclass(frozen=True)
class Stored:
    """A tensor of a sample as it lies in memory: a view of a buffer (on the CPU)."""

    buffer: torch.Tensor
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    requires_grad: bool

    @property
    def fills_buffer(self) -> bool:
        """Whether the buffer has no element that is not the tensor's."""
        return self.buffer.layout != torch.strided or self.buffer.numel() <= torch.Size(self.shape).numel()

    def on(self, device: str, dtype: torch.dtype | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """A fresh copy of the buffer on the device, and the tensor as a view of it; floating point as `dtype`."""
        buffer = self.buffer.clone() if device == "cpu" else self.buffer.to(device)
        if dtype is not None and buffer.is_floating_point():
            buffer = buffer.to(dtype)
        tensor = buffer.as_strided(self.shape, self.stride, self.offset) if buffer.layout == torch.strided else buffer
        return buffer, tensor.detach().requires_grad_(self.requires_grad)


def stored(operator: OpInfo, sample: SampleInput, layout: str) -> SampleInput | None:
    """The sample with each of its tensors as `Stored` in the layout, or None where the layout does not apply to it."""
    if layout in ("special", "expanded") and LIBRARIES.match(operator.name):
        return None
    if (operator.name, layout) in NOT_ON_CPU:
        return None
    seen: dict[int, Stored] = {}
    changed = layout == "own"

    def store(tensor: torch.Tensor, layout: str) -> Stored:
        nonlocal changed
        if id(tensor) not in seen:
            relaid = in_layout(tensor.detach(), layout)
            changed = changed or (layout != "own" and relaid is not None)
            seen[id(tensor)] = as_stored(tensor.detach() if relaid is None else relaid, tensor.requires_grad)
        return seen[id(tensor)]

    of_first = layout in ("expanded", "special")
    first = tree_map_only(torch.Tensor, lambda tensor: store(tensor, layout), sample.input)
    rest = tree_map_only(
        torch.Tensor, lambda tensor: store(tensor, "own" if of_first else layout), (sample.args, sample.kwargs)
    )
    if not changed:
        return None
    return SampleInput(
        first,
        args=rest[0],
        kwargs=rest[1],
        output_process_fn_grad=sample.output_process_fn_grad,
        broadcasts_input=sample.broadcasts_input,
        name=sample.name,
    )


def as_stored(tensor: torch.Tensor, requires_grad: bool = False) -> Stored:
    """The tensor with its whole storage, of which it may be a part, as a value."""
    if tensor.layout != torch.strided:
        return Stored(tensor, tuple(tensor.shape), (), 0, requires_grad)
    buffer = tensor.new_empty(0).set_(tensor.untyped_storage())
    return Stored(buffer, tuple(tensor.shape), tensor.stride(), tensor.storage_offset(), requires_grad)


def in_layout(tensor: torch.Tensor, layout: str) -> torch.Tensor | None:
    """The tensor's values in the layout, or None where the layout does not apply to it."""
    if layout == "own":
        return tensor.resolve_conj().resolve_neg()
    if tensor.layout != torch.strided:
        return None
    shape = tuple(tensor.shape)
    if layout == "transposed":
        if tensor.dim() < 2 or tensor.numel() == 0:
            return None
        order = tuple(reversed(range(tensor.dim())))
        return tensor.permute(order).contiguous().permute(order)
    if layout == "strided":
        last = shape[-1] if shape else 1
        buffer = gaps(tensor, (*shape[:-1], 2 * last + 1))
        return (buffer[..., 1::2] if shape else buffer[1]).copy_(tensor)
    if layout == "offset":
        return gaps(tensor, (tensor.numel() + 5,))[5:].view(shape).copy_(tensor)
    if layout == "expanded":
        long = [dim for dim in range(tensor.dim()) if shape[dim] > 1]
        if not long or tensor.numel() == 0:
            return None
        return tensor.narrow(long[0], 0, 1).clone().expand(shape)
    if layout == "special":
        if not tensor.is_floating_point() or tensor.numel() == 0:
            return None
        values = tensor.reshape(-1).clone()
        special = [float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1000.0, -1000.0, 1.0, -1.0]
        spots = torch.randperm(len(values), generator=torch.Generator().manual_seed(len(values)))[: len(special)]
        values[spots] = torch.tensor(special[: len(spots)], dtype=tensor.dtype)
        return values.view(shape)
    raise ValueError(f"unknown layout {layout!r}; one of {', '.join(LAYOUTS)} is expected")


def gaps(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A buffer of the tensor's dtype whose gaps are filled with numbers that would show in a result."""
    if tensor.dtype == torch.bool:
        return torch.ones(shape, dtype=tensor.dtype)
    return torch.full(shape, 77, dtype=tensor.dtype)


def place(
    sample: SampleInput, device: str, dtype: torch.dtype | None = None
) -> tuple[tuple, list[Stored], list[torch.Tensor], list[torch.Tensor]]:
    """The stored sample on a device: its (input, args, kwargs), its `Stored`, and for each the buffer and the tensor.

    A sample made for the CPU may name that device in its arguments; `device` replaces it. With `dtype`, floating point
    tensors and dtypes among the arguments become that dtype (the reference of higher precision).
    """
    placed: dict[int, torch.Tensor] = {}
    stored: list[Stored] = []
    buffers: list[torch.Tensor] = []

    def put(value: Any) -> Any:
        if isinstance(value, Stored):
            if id(value) not in placed:
                buffer, placed[id(value)] = value.on(device, dtype)
                stored.append(value)
                buffers.append(buffer)
            return placed[id(value)]
        if isinstance(value, torch.device) or (isinstance(value, str) and value == "cpu"):
            return torch.device(device)
        if isinstance(value, torch.dtype) and dtype is not None and value.is_floating_point:
            return dtype
        return value

    arguments = tree_map(put, (sample.input, sample.args, sample.kwargs))
    return arguments, stored, buffers, list(placed.values())


def names_device(arguments: tuple) -> bool:
    """Whether a tensor or a device among the arguments says where the operator is to run."""
    return any(isinstance(leaf, (torch.Tensor, torch.device)) for leaf in tree_leaves(arguments))


def describe(sample: SampleInput) -> str:
    """The stored sample's shapes and arguments in one line."""

    def text(value: Any) -> Any:
        if not isinstance(value, Stored):
            return value
        return f"{str(value.buffer.dtype).removeprefix('torch.')}{list(value.shape)}"

    first, args, kwargs = tree_map(text, (sample.input, sample.args, sample.kwargs))
    return f"({first}, {', '.join(map(str, args))}, {kwargs})"[:300]

"""Operators that PyTorch's own samples do not reach on a card: overloads with numbers, in-place forms, other kernels.

They are described like PyTorch's (`OpInfo`), so that the sweep compares them in the same layouts and dtypes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.testing import make_tensor
from torch.testing._internal.common_dtype import _dispatch_dtypes
from torch.testing._internal.opinfo.core import OpInfo, SampleInput

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.int64,)
NUMBERS = (*FLOATS, *INTEGERS)
BITS = (*INTEGERS, torch.bool)

SHAPES = ((), (5,), (3, 4), (2, 0, 3), (2, 3, 4, 5))

Make = Callable[..., torch.Tensor]


def describe(
    name: str,
    function: Callable,
    samples: Callable[[Make], list[SampleInput]],
    dtypes: tuple[torch.dtype, ...] = FLOATS,
    in_place: Callable | None = None,
    differentiable: bool = True,
) -> OpInfo:
    """An operator as the sweep takes it. `samples` gets a function that makes tensors of the dtype compared."""

    def make_samples(_info: OpInfo, device: str, dtype: torch.dtype, requires_grad: bool) -> list[SampleInput]:
        def make(*shape: int, low: float = -3, high: float = 3, **options: Any) -> torch.Tensor:
            options = {"dtype": dtype, "requires_grad": requires_grad} | options
            if options["dtype"] == torch.bool or not options["dtype"].is_floating_point:
                options["requires_grad"] = False
            limits = {} if options["dtype"] == torch.bool else {"low": low, "high": high}
            return make_tensor(shape, device=device, **limits, **options)

        return samples(make)

    return OpInfo(
        name,
        op=function,
        dtypes=_dispatch_dtypes(dtypes),
        sample_inputs_func=make_samples,
        inplace_variant=in_place,
        supports_out=False,
        supports_autograd=differentiable,
    )


def unary(make: Make) -> list[SampleInput]:
    """One tensor of each shape."""
    return [SampleInput(make(*shape)) for shape in SHAPES]


def with_numbers(*numbers: float) -> Callable[[Make], list[SampleInput]]:
    """One tensor of each shape with each of the numbers."""
    return lambda make: [SampleInput(make(*shape), args=(number,)) for shape in SHAPES for number in numbers]


def lists(make: Make) -> list[torch.Tensor]:
    """Tensors of several shapes, as a parameter group has them."""
    return [make(4, 3), make(7), make(2, 2, 2)]


def overloads() -> list[OpInfo]:
    """Operators of a tensor and a number, and in-place forms of them."""
    tensor = torch.Tensor
    return [
        describe("bitwise_and_number", lambda x, n: x & n, with_numbers(6), BITS, tensor.bitwise_and_, False),
        describe("bitwise_or_number", lambda x, n: x | n, with_numbers(6), BITS, tensor.bitwise_or_, False),
        describe("bitwise_xor_number", lambda x, n: x ^ n, with_numbers(6), BITS, tensor.bitwise_xor_, False),
        describe("left_shift_number", lambda x, n: x << n, with_numbers(2), INTEGERS, None, False),
        describe("right_shift_number", lambda x, n: x >> n, with_numbers(1), INTEGERS, None, False),
        *[
            describe(
                f"{name}_number",
                getattr(torch, name),
                with_numbers(1, 0.5),
                (*NUMBERS, torch.bool),
                getattr(tensor, f"{name}_"),
                False,
            )
            for name in ("eq", "ne", "ge", "gt", "le", "lt")
        ],
        *[
            describe(
                f"div_{rounding}_number",
                lambda x, n, rounding=rounding: torch.div(x, n, rounding_mode=rounding),
                with_numbers(3, -0.75),
                NUMBERS,
                lambda x, n, rounding=rounding: x.div_(n, rounding_mode=rounding),
            )
            for rounding in ("floor", "trunc")
        ],
        describe("floor_divide_number", torch.floor_divide, with_numbers(3, -2), NUMBERS, tensor.floor_divide_, False),
        describe("fmod_number", torch.fmod, with_numbers(2, -1.5), NUMBERS, tensor.fmod_),
        describe("remainder_number", torch.remainder, with_numbers(2, -1.5), NUMBERS, tensor.remainder_),
        describe("remainder_of_number", lambda x, n: torch.remainder(n, x), with_numbers(7, -2.5), FLOATS, None, False),
        describe("xlogy_number", torch.xlogy, with_numbers(2.5, 0), FLOATS, tensor.xlogy_),
        describe("xlogy_of_number", lambda x, n: torch.xlogy(n, x), with_numbers(2.5, 0), FLOATS),
        describe("pow_of_number", lambda x, n: torch.pow(n, x), with_numbers(2.5, 1), FLOATS),
        describe("rsub_number", torch.rsub, with_numbers(2.5), FLOATS),
        describe("isin_number", torch.isin, with_numbers(1), NUMBERS, None, False),
        describe("isin_of_number", lambda x, n: torch.isin(n, x), with_numbers(1), NUMBERS, None, False),
        describe("clamp_min_number", torch.clamp_min, with_numbers(1), NUMBERS, tensor.clamp_min_),
        describe("clamp_max_number", torch.clamp_max, with_numbers(1), NUMBERS, tensor.clamp_max_),
        describe("masked_fill_number", masked_fill_number, with_numbers(2), NUMBERS),
        describe("lerp_number", torch.lerp, weighted, FLOATS, tensor.lerp_),
        describe("addcmul_number", torch.addcmul, scaled, FLOATS, tensor.addcmul_),
        describe("addcdiv_number", torch.addcdiv, scaled, FLOATS, tensor.addcdiv_),
    ]


def masked_fill_number(x: torch.Tensor, number: float) -> torch.Tensor:
    """A fill where a comparison says so."""
    return x.masked_fill(x > 0, number)


def weighted(make: Make) -> list[SampleInput]:
    """Two tensors and a weight."""
    return [SampleInput(make(*shape), args=(make(*shape), weight)) for shape in SHAPES for weight in (0.25, 0.75)]


def scaled(make: Make) -> list[SampleInput]:
    """Three tensors and a factor, as the step of an optimizer has them."""
    return [
        SampleInput(make(*shape), args=(make(*shape), make(*shape, low=1)), kwargs={"value": -0.1}) for shape in SHAPES
    ]


def layers() -> list[OpInfo]:
    """Pieces of models whose kernels PyTorch's samples reach in another form only."""
    return [
        describe(
            "hardswish_in_place", functional.hardswish, unary, FLOATS, lambda x: functional.hardswish(x, inplace=True)
        ),
        describe("hardtanh_in_place", functional.hardtanh, unary, FLOATS, functional.hardtanh_),
        describe("log_sigmoid_evaluated", functional.logsigmoid, unary, FLOATS, None, False),
        describe("embedding_with_max_norm", embed, embeddings, (torch.float32,), None, False),
        describe("bucketize_number", lambda x, n: torch.bucketize(n, x), boundaries, FLOATS, None, False),
        describe("fill_diagonal", lambda x: x.clone().fill_diagonal_(2), squares, NUMBERS, None, False),
        describe(
            "fill_diagonal_wrapped", lambda x: x.clone().fill_diagonal_(2, wrap=True), squares, NUMBERS, None, False
        ),
        describe("conv_tbc", torch.conv_tbc, time_batch_channel, FLOATS),
        describe("depthwise_convolution", depthwise, depthwise_samples, FLOATS),
        describe("affine_grid", functional.affine_grid, affine, (torch.float32,)),
        describe("interpolate_antialiased", functional.interpolate, antialiased, (torch.float32,)),
        describe("rms_norm", functional.rms_norm, normalised, FLOATS),
        describe("add_relu", torch.ops.aten._add_relu.Tensor, pairs, FLOATS, torch.ops.aten._add_relu_.Tensor, False),
        describe("aminmax_of_all", torch._aminmax, filled, NUMBERS, None, False),
        describe("aminmax_of_dimension", lambda x: torch._aminmax(x, 0), filled, NUMBERS, None, False),
        describe("range", number_range, with_numbers(0.5), (torch.float32,), None, False),
        describe("masked_scale", masked_scale, masked, FLOATS, None, False),
        describe("repeat_interleave_each", torch.repeat_interleave, repeated, NUMBERS),
        describe("repeat_interleave_counts", torch.repeat_interleave, counts, INTEGERS, None, False),
        describe("slogdet", torch.slogdet, matrices, (torch.float32,), None, False),
        describe("inverse", torch.inverse, matrices, (torch.float32,)),
        describe("foreach_add_list_with_alpha", foreach_add, list_pairs, FLOATS, None, False),
        describe("foreach_pow_of_number", lambda x: torch._foreach_pow(2.5, x), one_list, FLOATS, None, False),
        describe("foreach_addcmul_numbers", torch._foreach_addcmul, list_triples, FLOATS, None, False),
        describe("foreach_addcdiv_numbers", torch._foreach_addcdiv, list_triples, FLOATS, None, False),
        describe("foreach_zero", foreach_zero, one_list, NUMBERS, None, False),
    ]


def embed(weight: torch.Tensor, ids: torch.Tensor, norm: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows, and the table whose rows are renormalised in place."""
    return functional.embedding(ids, weight, max_norm=norm), weight


def embeddings(make: Make) -> list[SampleInput]:
    """Tables with ids, some of them twice."""
    ids = torch.tensor([[1, 4, 1], [0, 6, 4]])
    return [SampleInput(make(7, 5), args=(ids, norm)) for norm in (0.5, 2.0, 100.0)]


def boundaries(make: Make) -> list[SampleInput]:
    """Sorted tensors and numbers."""
    return [SampleInput(make(8).sort().values, args=(number,)) for number in (-10.0, 0.1, 10.0)]


def squares(make: Make) -> list[SampleInput]:
    """Matrices, tall ones too."""
    return [SampleInput(make(*shape)) for shape in ((4, 4), (7, 3), (3, 7))]


def time_batch_channel(make: Make) -> list[SampleInput]:
    """Input [time, batch, channels], kernel [width, channels in, out]."""
    return [SampleInput(make(6, 2, 3), args=(make(3, 3, 4), make(4), padding)) for padding in (0, 1)]


def depthwise(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, stride: int) -> torch.Tensor:
    """A convolution with one filter for each channel."""
    return functional.conv2d(x, weight, bias, stride=stride, padding=1, groups=x.shape[1])


def depthwise_samples(make: Make) -> list[SampleInput]:
    """Images and filters."""
    return [SampleInput(make(2, 4, 6, 5), args=(make(4, 1, 3, 3), make(4), stride)) for stride in (1, 2)]


def affine(make: Make) -> list[SampleInput]:
    """Matrices of two and three dimensions, with the size of the grid."""
    return [
        SampleInput(make(2, dimensions, dimensions + 1), args=([2, 3, *range(4, 4 + dimensions)], corners))
        for dimensions in (2, 3)
        for corners in (False, True)
    ]


def antialiased(make: Make) -> list[SampleInput]:
    """Images that are made smaller and larger."""
    return [
        SampleInput(make(1, 2, 8, 6), kwargs={"size": size, "mode": mode, "antialias": True, "align_corners": False})
        for size in ((4, 3), (11, 9))
        for mode in ("bilinear", "bicubic")
    ]


def normalised(make: Make) -> list[SampleInput]:
    """Rows, with and without a weight."""
    return [
        SampleInput(make(*shape, 8), args=([8], weight)) for shape in ((), (3,), (2, 5)) for weight in (None, make(8))
    ]


def counts(make: Make) -> list[SampleInput]:
    """How often each index is to be repeated."""
    return [SampleInput(make(length, low=0, high=4)) for length in (0, 1, 6)]


def pairs(make: Make) -> list[SampleInput]:
    """Two tensors."""
    return [SampleInput(make(*shape), args=(make(*shape),)) for shape in SHAPES]


def filled(make: Make) -> list[SampleInput]:
    """Tensors that have an element."""
    return [SampleInput(make(*shape)) for shape in ((5,), (3, 4), (2, 3, 4))]


def number_range(x: torch.Tensor, step: float) -> torch.Tensor:
    """A range that includes its end, on the tensor's device."""
    return torch.range(-1, 4, step, dtype=x.dtype, device=x.device)


def masked_scale(x: torch.Tensor, mask: torch.Tensor, scale: float) -> torch.Tensor:
    """What the gradient of dropout on other devices is made of; the CPU has no kernel for it."""
    return torch._masked_scale(x, mask, scale) if x.device.type == "npu" else x * mask * scale


def masked(make: Make) -> list[SampleInput]:
    """A tensor, where it is kept, and the scale of that."""
    return [SampleInput(make(*shape), args=(make(*shape, dtype=torch.bool).to(torch.uint8), 1.25)) for shape in SHAPES]


def repeated(make: Make) -> list[SampleInput]:
    """How often each slice is to be repeated."""
    often = torch.tensor([2, 0, 3])
    return [SampleInput(make(3), args=(often,)), SampleInput(make(2, 3, 2), args=(often, 1))]


def matrices(make: Make) -> list[SampleInput]:
    """Well-conditioned matrices, and a batch of them."""
    return [SampleInput(make(*shape) + 8 * torch.eye(shape[-1])) for shape in ((1, 1), (4, 4), (2, 3, 3))]


def foreach_add(first: list[torch.Tensor], second: list[torch.Tensor]) -> Any:
    """A step of momentum."""
    return torch._foreach_add(first, second, alpha=0.5)


def list_pairs(make: Make) -> list[SampleInput]:
    """Two lists."""
    return [SampleInput(lists(make), args=(lists(make),))]


def one_list(make: Make) -> list[SampleInput]:
    """One list."""
    return [SampleInput(lists(make))]


def list_triples(make: Make) -> list[SampleInput]:
    """Three lists and a number for each of their tensors."""
    thirds = [make(*each.shape, low=1) for each in lists(make)]
    return [SampleInput(lists(make), args=(lists(make), thirds, [0.5, -1.0, 2.0]))]


def foreach_zero(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Gradients that are set to zero."""
    copies = [tensor.clone() for tensor in tensors]
    torch._foreach_zero_(copies)
    return copies


def synchronised_normalisation() -> list[OpInfo]:
    """What SyncBatchNorm calls. The CPU has no kernels for it: there, its definition in other operators is computed."""
    float32 = (torch.float32,)
    return [
        describe("batch_norm_stats", batch_norm_stats, one_batch, float32, None, False),
        describe("batch_norm_elemt", batch_norm_elemt, one_batch, float32, None, False),
        describe("batch_norm_backward_reduce", batch_norm_backward_reduce, one_batch, float32, None, False),
        describe("batch_norm_backward_elemt", batch_norm_backward_elemt, one_batch, float32, None, False),
        describe("batch_norm_gather_stats", batch_norm_gather_stats, one_batch, float32, None, False),
    ]


EPS = 1e-5


def one_batch(make: Make) -> list[SampleInput]:
    """Input and gradient [batch, channels, ...], weight, bias."""
    return [
        SampleInput(make(*shape), args=(make(*shape), make(shape[1]), make(shape[1])))
        for shape in ((4, 3), (2, 3, 5), (2, 4, 3, 5))
    ]


def statistics(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and reciprocal standard deviation of each channel, by definition."""
    dims = [dim for dim in range(x.dim()) if dim != 1]
    return x.mean(dims), torch.rsqrt(x.var(dims, correction=0) + EPS)


def per_channel(x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """A value of each channel, to be broadcast to x."""
    return value.view(1, -1, *[1] * (x.dim() - 2))


def batch_norm_stats(x: torch.Tensor, *_: torch.Tensor) -> Any:
    """Statistics of this rank."""
    return torch.batch_norm_stats(x, EPS) if x.device.type == "npu" else statistics(x)


def batch_norm_elemt(x: torch.Tensor, _: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> Any:
    """Normalisation by given statistics."""
    mean, invstd = statistics(x)
    if x.device.type == "npu":
        return torch.batch_norm_elemt(x, weight, bias, mean, invstd, EPS)
    return (x - per_channel(x, mean)) * per_channel(x, invstd * weight) + per_channel(x, bias)


def batch_norm_backward_reduce(x: torch.Tensor, grad: torch.Tensor, weight: torch.Tensor, _: torch.Tensor) -> Any:
    """Sums of this rank for the gradient: of grad, of grad times the centred input; gradients of weight and bias."""
    mean, invstd = statistics(x)
    if x.device.type == "npu":
        return torch.batch_norm_backward_reduce(grad, x, mean, invstd, weight, True, True, True)
    dims = [dim for dim in range(x.dim()) if dim != 1]
    total, product = grad.sum(dims), (grad * (x - per_channel(x, mean))).sum(dims)
    return total, product, product * invstd, total


def batch_norm_backward_elemt(x: torch.Tensor, grad: torch.Tensor, weight: torch.Tensor, _: torch.Tensor) -> Any:
    """The input's gradient from the sums over all ranks, here two equal ones."""
    mean, invstd = statistics(x)
    dims = [dim for dim in range(x.dim()) if dim != 1]
    centred = x - per_channel(x, mean)
    total, product = 2 * grad.sum(dims), 2 * (grad * centred).sum(dims)
    each = x.numel() // x.shape[1]
    if x.device.type == "npu":
        count = torch.full((2,), each, dtype=torch.int32, device=x.device)
        return torch.batch_norm_backward_elemt(grad, x, mean, invstd, weight, total, product, count)
    slope = per_channel(x, product * invstd**2 / (2 * each))
    return (grad - per_channel(x, total / (2 * each)) - centred * slope) * per_channel(x, invstd * weight)


def batch_norm_gather_stats(x: torch.Tensor, other: torch.Tensor, mean: torch.Tensor, var: torch.Tensor) -> Any:
    """Statistics of two ranks put together, and the running ones after that."""
    running_mean, running_var = mean.clone(), var.abs()
    means, invstds = (torch.stack(pair) for pair in zip(statistics(x), statistics(other), strict=True))
    counts = torch.full((2,), x.numel() // x.shape[1], dtype=x.dtype, device=x.device)
    if x.device.type == "npu":
        together = torch.batch_norm_gather_stats_with_counts(
            x, means, invstds, running_mean, running_var, 0.1, EPS, counts
        )
        return *together, running_mean, running_var
    count = counts.sum()
    mean_of_all = means.mean(0)
    variance = (invstds**-2 - EPS + (means - mean_of_all) ** 2).mean(0)
    running_mean = 0.9 * running_mean + 0.1 * mean_of_all
    running_var = 0.9 * running_var + 0.1 * variance * count / (count - 1)
    return mean_of_all, torch.rsqrt(variance + EPS), running_mean, running_var


def further_operators() -> list[OpInfo]:
    """All operators of this module."""
    return [*overloads(), *layers(), *synchronised_normalisation()]

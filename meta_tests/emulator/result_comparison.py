"""Whether a result of the card equals the CPU's: structure, device, shape, dtype, NaN pattern, values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

TOLERANCES = {
    torch.float64: (1e-7, 1e-7),
    torch.float32: (1.3e-6, 1e-5),
    torch.float16: (1e-3, 1e-5),
    torch.bfloat16: (1.6e-2, 1e-5),
    torch.complex128: (1e-7, 1e-7),
    torch.complex64: (1.3e-6, 1e-5),
    torch.complex32: (1e-3, 1e-5),
}
"""Relative and absolute, by dtype: those of torch.testing.assert_close. Both sides run the same CPU kernels, so most
results are equal bit by bit; the tolerance is for operators that torch_npu composes of other kernels than the CPU does.
Integers and bool are exact."""

PEER_FACTOR = 2.0
"""A result outside the tolerance conforms if it is as good as the CPU's own: its largest and its RMS error against the
truth (the CPU in float64) are at most this times the CPU's. Half types need it where the emulator computes in float32
and rounds once."""

FLOOR = {torch.float32: 8.0, torch.float16: 2.0, torch.bfloat16: 1.0}
"""In eps of the dtype times the truth's largest element (RMS for the RMS error): error that is allowed where the CPU
happens to be exact. 1 to 2 units in the last place of half types; in float32 that of sums in another order."""


class Mismatch(Exception):
    """Two results differ: the message says in what, `error` by how much (None where it is not a matter of values)."""

    def __init__(self, message: str, error: float | None = None):
        super().__init__(message)
        self.error = error


def check_equal(
    measured: Any,
    expected: Any,
    *,
    truth: Callable[[], Any] | None = None,
    values: bool = True,
    device: str | None = None,
) -> None:
    """Compares two nested results leaf by leaf and raises `Mismatch` at the first that differs.

    Args:
        measured: the card's result: tensors, numbers, and tuples, lists and dictionaries of them.
        expected: the CPU's.
        truth: returns the result in float64, or None; asked only where values are outside the tolerance.
        values: False where only structure, shape and dtype are compared.
        device: where the tensors of `measured` must be.
    """
    measured_leaves, expected_leaves = tree_leaves(measured), tree_leaves(expected)
    if len(measured_leaves) != len(expected_leaves):
        raise Mismatch(f"{len(expected_leaves)} results expected, {len(measured_leaves)} found")
    for index, (found, wanted) in enumerate(zip(measured_leaves, expected_leaves, strict=True)):
        where = f"result {index}: " if len(expected_leaves) > 1 else ""
        if isinstance(wanted, torch.Tensor):
            if not isinstance(found, torch.Tensor):
                raise Mismatch(f"{where}a tensor expected, {type(found).__name__} found")
            check_tensor(where, found, wanted, leaf_of(truth, index, len(expected_leaves)), values, device)
        elif isinstance(wanted, float) and isinstance(found, float):
            pair = [torch.tensor(number, dtype=torch.float32) for number in (found, wanted)]
            check_tensor(where, *pair, leaf_of(truth, index, len(expected_leaves)), values, None)
        elif type(found) is not type(wanted) or (values and not_a_device(wanted) and found != wanted):
            raise Mismatch(f"{where}{wanted!r} expected, {found!r} found")


def not_a_device(value: Any) -> bool:
    """Whether the value is something else than a device, of which the card's is another than the CPU's."""
    return not isinstance(value, torch.device)


def leaf_of(truth: Callable[[], Any] | None, index: int, count: int) -> Callable[[], torch.Tensor | None]:
    """The truth of one leaf."""

    def leaf() -> torch.Tensor | None:
        leaves = tree_leaves(truth()) if truth is not None else []
        if len(leaves) != count or leaves[index] is None:
            return None
        return torch.as_tensor(leaves[index]).detach()

    return leaf


def check_tensor(
    where: str,
    measured: torch.Tensor,
    expected: torch.Tensor,
    truth: Callable[[], torch.Tensor | None],
    values: bool,
    device: str | None,
) -> None:
    """Compares two tensors and raises `Mismatch` with the first property that differs."""
    if device is not None and measured.device.type != device:
        raise Mismatch(f"{where}a tensor on {device} expected, on {measured.device.type} found")
    for name in ("shape", "dtype", "layout"):
        found, wanted = getattr(measured, name), getattr(expected, name)
        if found != wanted:
            raise Mismatch(f"{where}{name} {wanted} expected, {found} found")
    if not values:
        return
    found, wanted = plain(measured), plain(expected)
    if torch.equal(found, wanted):
        return
    check_values(where, found, wanted, truth)


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as a dense one on the CPU without pending operations, in a dtype that has comparisons."""
    tensor = tensor.detach().cpu()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.dtype == torch.complex32:
        tensor = tensor.to(torch.complex64)
    return tensor.resolve_conj().resolve_neg()


def check_values(
    where: str, found: torch.Tensor, wanted: torch.Tensor, truth: Callable[[], torch.Tensor | None]
) -> None:
    """Compares the values of two CPU tensors of one shape and dtype."""
    if not (wanted.is_floating_point() or wanted.is_complex()):
        wrong = found != wanted
        first = tuple(torch.nonzero(wrong)[0].tolist())
        raise Mismatch(
            f"{where}{int(wrong.sum())} of {wrong.numel()} elements differ, "
            f"at {list(first)} {wanted[first].item()} expected, {found[first].item()} found"
        )
    wide = torch.complex128 if wanted.is_complex() else torch.float64
    a, b = found.to(wide), wanted.to(wide)
    same_kind = (a == b) | (a.isnan() & b.isnan()) | (a.isfinite() & b.isfinite())
    if not bool(same_kind.all()):
        first = tuple(torch.nonzero(~same_kind)[0].tolist())
        raise Mismatch(
            f"{where}NaN or infinity: {int((~same_kind).sum())} of {same_kind.numel()} elements differ, "
            f"at {list(first)} {wanted[first].item()} expected, {found[first].item()} found"
        )
    finite = a.isfinite() & b.isfinite()
    a, b = a[finite], b[finite]
    if not len(a):
        return
    relative, absolute = TOLERANCES[wanted.dtype]
    errors = (a - b).abs()
    outside = errors > absolute + relative * b.abs()
    if not bool(outside.any()):
        return
    exact = truth()
    if (
        exact is not None
        and exact.shape == wanted.shape
        and conforms_to_truth(a, b, exact.to(wide)[finite], wanted.dtype)
    ):
        return
    error = float(errors.max() / b.abs().max().clamp_min(torch.finfo(wanted.dtype).tiny))
    raise Mismatch(
        f"{where}values: {int(outside.sum())} of {wanted.numel()} elements differ, the largest error is "
        f"{float(errors.max()):.3g} where {float(b.abs()[errors.argmax()]):.3g} is expected",
        error,
    )


def conforms_to_truth(measured: torch.Tensor, peer: torch.Tensor, truth: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether the measured values are about as near to the truth as the CPU's. All float64, of one dimension."""
    known = truth.isfinite()
    if not bool(known.all()):
        return False
    for size in (lambda values: values.abs().max(), lambda values: values.abs().square().mean().sqrt()):
        allowed = PEER_FACTOR * size(peer - truth) + FLOOR.get(dtype, 0.0) * torch.finfo(dtype).eps * size(truth)
        if size(measured - truth) > allowed:
            return False
    return True

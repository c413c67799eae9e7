"""Flash attention on the emulated card against attention written out in float64, for each layout and sparse mode.

    python -m meta_tests.emulator.attention_comparison

prints what differs and a line with the number of comparisons. PyTorch's operator samples reach flash attention only
through scaled_dot_product_attention: one layout and three of its nine sparse modes.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch_npu

UNLIMITED = 2**31 - 1
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 4e-2}
"""The largest error relative to the largest value. bfloat16 gradients come from a rounded output."""
CAUSAL = torch.ones(2048, 2048, dtype=torch.bool).triu(1)
PREFIX = torch.cat([CAUSAL, torch.arange(2048).ge(1024).expand(1024, 2048)])
"""The compressed masks of sparse modes 2, 3, 4, 7, 8 and of 6."""


@dataclass(frozen=True)
class Masking:
    """The arguments of one sparse mode, and which scores they leave out."""

    arguments: dict
    masked: torch.Tensor | None
    empty_rows_are_zero: bool = False


def band(queries: int, keys: int, pre: int, next: int, corner: int = 0) -> torch.Tensor:
    """True outside the window [-pre, next] around the diagonal that is moved `corner` to the right."""
    distance = torch.arange(keys) - torch.arange(queries)[:, None] - corner
    return (distance < -pre) | (distance > next)


def with_prefix(queries: int, keys: int, prefixes: Sequence[int]) -> torch.Tensor:
    """Causal from the bottom right corner, but for the first keys of each batch."""
    causal = band(queries, keys, UNLIMITED, 0, keys - queries)
    return torch.stack([causal & (torch.arange(keys) >= prefix) for prefix in prefixes])[:, None]


def masking(mode: int | None, queries: int, keys: int, batch: int) -> Masking:
    """Example arguments of a sparse mode; None is attention without a mask."""
    corner = keys - queries
    least = max(0, corner)
    prefixes = [min(least + 1 + number, keys) for number in range(batch)]
    if mode is None:
        return Masking({}, None)
    if mode == 0:
        masked = torch.rand(batch, 1, queries, keys) < 0.3
        masked[..., 0] = False
        return Masking({"atten_mask": masked}, masked)
    if mode == 1:
        masked = torch.rand(queries, keys) < 0.3
        masked[0] = True
        return Masking({"atten_mask": masked, "inner_precise": 2}, masked, True)
    if mode == 2:
        return Masking({"atten_mask": CAUSAL}, band(queries, keys, UNLIMITED, 0))
    if mode == 3:
        return Masking({"atten_mask": CAUSAL}, band(queries, keys, UNLIMITED, 0, corner), True)
    if mode == 4:
        masked = band(queries, keys, 3, 1, corner)
        return Masking({"atten_mask": CAUSAL, "pre_tockens": 3, "next_tockens": 1}, masked, True)
    masked = with_prefix(queries, keys, prefixes)
    return Masking({"atten_mask": masked if mode == 5 else PREFIX, "prefix": prefixes}, masked, mode == 6)


def attention(query, key, value, scale, masking: Masking, sink=None, position=None) -> torch.Tensor:
    """Attention of [batch, heads, length, width], written out."""
    groups = query.size(1) // key.size(1)
    scores = query @ key.repeat_interleave(groups, 1).transpose(-1, -2)
    scores = (scores if position is None else scores + position) * scale
    if masking.masked is not None:
        scores = scores.masked_fill(masking.masked, -1e30)
    if sink is not None:
        scores = torch.cat([scores, sink.view(1, -1, 1, 1).expand(*scores.shape[:3], 1)], -1)
    probabilities = scores.softmax(-1)[..., : key.size(2)]
    if masking.masked is not None and masking.empty_rows_are_zero:
        probabilities = probabilities.masked_fill(masking.masked.expand_as(probabilities).all(-1, keepdim=True), 0)
    return probabilities @ value.repeat_interleave(groups, 1)


def in_layout(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """[batch, heads, length, width] in another order of dimensions."""
    if layout == "BNSD":
        return tensor
    if layout == "BSND":
        return tensor.transpose(1, 2).contiguous()
    return (tensor.transpose(1, 2) if layout == "BSH" else tensor.permute(2, 0, 1, 3)).flatten(2)


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Normal numbers that the dtype holds exactly, in float64, with a gradient."""
    return torch.randn(shape, dtype=torch.float64).to(dtype).double().requires_grad_()


def differences(what: str, measured: Sequence, expected: Sequence, limit: float) -> list[str]:
    """One line for each pair of tensors that differ by more than `limit` relative to the largest value."""
    lines = []
    for number, (one, other) in enumerate(zip(measured, expected, strict=True)):
        error = (one.detach().cpu().double() - other.detach()).abs().max() / other.detach().abs().max()
        if not error <= limit:
            lines.append(f"{what}: tensor {number} differs by {error:.3g}, {limit:.3g} is allowed")
    return lines


def on_card(masking: Masking) -> dict:
    """The arguments with their mask on the card."""
    mask = masking.arguments.get("atten_mask")
    return {**masking.arguments, **({} if mask is None else {"atten_mask": mask.npu()})}


def dense_cases() -> Iterator[list[str]]:
    """Output and gradients in each layout and sparse mode, for queries as many, fewer and more than keys."""
    modes = (None, 0, 1, 2, 3, 4, 5, 6)
    lengths = ((5, 5), (4, 7), (7, 4))
    for layout, mode, (queries, keys), shared, dtype in itertools.product(
        ("BNSD", "BSND", "BSH", "SBH"), modes, lengths, (1, 2), LIMITS
    ):
        query = random(2, 4, queries, 8, dtype=dtype)
        key, value = (random(2, 4 // shared, keys, 8, dtype=dtype) for _ in range(2))
        masked = masking(mode, queries, keys, 2)
        expected = attention(query, key, value, 0.35, masked)
        grad = torch.randn_like(expected)
        expected.backward(grad)

        inputs = [in_layout(t.detach().to(dtype), layout).npu().requires_grad_() for t in (query, key, value)]
        measured = torch_npu.npu_fusion_attention(
            *inputs, 4, layout, scale=0.35, sparse_mode=mode or 0, **on_card(masked)
        )[0]
        measured.backward(in_layout(grad, layout).to(dtype).npu())

        what = f"{layout}, sparse_mode {mode}, {queries} queries, {keys} keys, {shared} heads a key, {dtype}"
        wanted = [in_layout(t, layout) for t in (expected, query.grad, key.grad, value.grad)]
        yield differences(what, [measured, *(t.grad for t in inputs)], wanted, LIMITS[dtype])


def packed_cases() -> Iterator[list[str]]:
    """Output and gradients of packed sequences (layout TND), in which transformers calls flash attention."""
    for mode, shared, softmax_layout in itertools.product((None, 0, 2, 3, 4, 6, 7, 8), (1, 2), ("", "TND")):
        query_lengths = (3, 4, 2)
        key_lengths = query_lengths if mode in (2, 8) else (3, 6, 5)
        arguments, masked = packed_masking(mode, query_lengths, key_lengths)
        queries = [random(1, 4, length, 8) for length in query_lengths]
        keys, values = ([random(1, 4 // shared, length, 8) for length in key_lengths] for _ in range(2))
        expected = [
            attention(query, key, value, 0.35, one)
            for query, key, value, one in zip(queries, keys, values, masked, strict=True)
        ]
        grads = [torch.randn_like(one) for one in expected]
        torch.autograd.backward(expected, grads)

        inputs = [packed(t).float().npu().requires_grad_() for t in (queries, keys, values)]
        measured = torch_npu.npu_fusion_attention(
            *inputs,
            4,
            "TND",
            scale=0.35,
            actual_seq_qlen=list(itertools.accumulate(query_lengths)),
            actual_seq_kvlen=list(itertools.accumulate(key_lengths)),
            sparse_mode=mode or 0,
            softmax_layout=softmax_layout,
            **arguments,
        )[0]
        measured.backward(packed(grads).float().npu())

        what = f"TND, sparse_mode {mode}, {shared} heads a key, softmax_layout {softmax_layout!r}"
        wanted = [packed(expected), *(packed([t.grad for t in parts]) for parts in (queries, keys, values))]
        yield differences(what, [measured, *(t.grad for t in inputs)], wanted, LIMITS[torch.float32])


def packed(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """[total length, heads, width] of sequences [1, heads, length, width]."""
    return torch.cat([part.detach()[0].transpose(0, 1) for part in parts])


def packed_masking(mode: int | None, query_lengths: Sequence[int], key_lengths: Sequence[int]) -> tuple[dict, list]:
    """The arguments of a sparse mode for packed sequences, and the masking of each sequence."""
    shapes = list(zip(query_lengths, key_lengths, strict=True))
    if mode is None:
        return {}, [Masking({}, None)] * len(shapes)
    if mode == 0:
        mask = torch.rand(max(query_lengths), max(key_lengths)) < 0.3
        mask[:, 0] = False
        return {"atten_mask": mask.npu()}, [Masking({}, mask[:queries, :keys]) for queries, keys in shapes]
    if mode == 6:
        prefixes = [2, 3, 4]
        masked = [
            Masking({}, with_prefix(*shape, [prefix]), True) for shape, prefix in zip(shapes, prefixes, strict=True)
        ]
        return {"atten_mask": PREFIX.npu(), "prefix": prefixes}, masked
    # In modes 7 and 8 the last or the first sequence is a band: what is left of one that was cut between cards.
    tokens = {4: (4, 0), 7: (6, -1), 8: (4, 1)}.get(mode, (UNLIMITED, 0))
    bands = {4: range(len(shapes)), 7: (len(shapes) - 1,), 8: (0,)}.get(mode, ())
    masked = []
    for number, (queries, keys) in enumerate(shapes):
        window = tokens if number in bands else (UNLIMITED, 0)
        corner = 0 if mode in (2, 8) and number not in bands else keys - queries
        masked.append(Masking({}, band(queries, keys, *window, corner), True))
    return {"atten_mask": CAUSAL.npu(), "pre_tockens": tokens[0], "next_tockens": tokens[1]}, masked


def extra_cases() -> Iterator[list[str]]:
    """A sink and a position encoding, and their gradients."""
    for use_sink, use_position in ((True, False), (False, True)):
        query, key, value = (random(2, 3, 6, 8) for _ in range(3))
        sink, position = random(3), random(1, 3, 6, 6)
        arguments = {"sink": sink} if use_sink else {"pse": position}
        expected = attention(
            query, key, value, 0.4, Masking({}, None), sink if use_sink else None, position if use_position else None
        )
        grad = torch.randn_like(expected)
        expected.backward(grad)

        inputs = [t.detach().float().npu().requires_grad_() for t in (query, key, value)]
        extra = {name: t.detach().float().npu().requires_grad_() for name, t in arguments.items()}
        # On Ascend950 npu_fusion_attention, unlike this one, leaves the sink out of its forward computation.
        measured = torch_npu.npu_fusion_attention_v2(*inputs, 3, "BNSD", scale=0.4, **extra)[0]
        measured.backward(grad.float().npu())

        wanted = [expected, *(t.grad for t in (query, key, value, *arguments.values()))]
        grads = [t.grad for t in (*inputs, *extra.values())]
        yield differences(f"with {', '.join(arguments)}", [measured, *grads], wanted, LIMITS[torch.float32])


def main() -> None:
    """Compares all and prints."""
    torch.manual_seed(0)
    outcomes = list(itertools.chain(dense_cases(), packed_cases(), extra_cases()))
    for line in itertools.chain.from_iterable(outcomes):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"{sum(bool(lines) for lines in outcomes)} of {len(outcomes)} cases differ\n")


if __name__ == "__main__":
    main()

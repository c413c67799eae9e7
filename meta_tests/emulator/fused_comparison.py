"""torch_npu's fused operators on the emulated card against what they stand for, written out in float64.

    python -m meta_tests.emulator.fused_comparison

prints what differs and a line with the number of comparisons. PyTorch's operator samples do not reach these.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
import torch_npu

LIMIT = 2e-5
"""The largest error relative to the largest value, in float32."""


def differences(what: str, inputs: Sequence[torch.Tensor], plain: Callable, fused: Callable) -> list[str]:
    """One line for each output or gradient that differs. Both functions take the inputs and return a tensor."""
    exact = [t.double().requires_grad_() for t in inputs]
    on_card = [t.npu().requires_grad_() for t in inputs]
    expected, measured = plain(*exact), fused(*on_card)
    pairs = [("output", measured, expected)]
    if measured.requires_grad:
        grad = torch.randn_like(expected)
        expected.backward(grad)
        measured.backward(grad.float().npu())
        pairs += [(f"gradient {n}", a.grad, b.grad) for n, (a, b) in enumerate(zip(on_card, exact, strict=True))]
    lines = []
    for name, one, other in pairs:
        error = (one.detach().cpu().double() - other.detach()).abs().max() / other.detach().abs().max()
        if not error <= LIMIT:
            lines.append(f"{what}: {name} differs by {error:.3g}")
    return lines


def rms_norm(x, weight):
    """Root mean square normalisation of the last dimension."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * weight


def turned(x):
    """(a, b) becomes (-b, a), for the halves of the last dimension."""
    first, second = x.chunk(2, -1)
    return torch.cat([-second, first], -1)


def turned_pairs(x):
    """The same for neighbours."""
    return torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)


def normalisations() -> Iterator[list[str]]:
    """RMS, layer and group normalisation with what is fused into them."""
    x, y, weight, bias = torch.randn(2, 3, 16), torch.randn(2, 3, 16), torch.randn(16), torch.randn(16)
    yield differences("npu_rms_norm", [x, weight], rms_norm, lambda x, w: torch_npu.npu_rms_norm(x, w, 1e-6)[0])
    yield differences(
        "npu_gemma_rms_norm",
        [x, weight],
        lambda x, w: rms_norm(x, 1 + w),
        lambda x, w: torch_npu.npu_gemma_rms_norm(x.detach(), w.detach(), 1e-6)[0],
    )
    yield differences(
        "npu_add_rms_norm",
        [x, y, weight],
        lambda x, y, w: rms_norm(x + y, w),
        lambda x, y, w: torch_npu.npu_add_rms_norm(x.detach(), y.detach(), w.detach(), 1e-6)[0],
    )
    yield differences(
        "npu_add_layer_norm",
        [x, y, weight, bias],
        lambda x, y, w, b: F.layer_norm(x + y, (16,), w, b, 1e-5),
        lambda x, y, w, b: torch_npu.npu_add_layer_norm(x, y, w, b, 1e-5, True)[0],
    )
    yield differences(
        "npu_deep_norm",
        [x, y, bias, weight],
        lambda x, y, b, w: F.layer_norm(0.3 * x + y, (16,), w, b, 1e-6),
        lambda x, y, b, w: torch_npu.npu_deep_norm(x, y, b, w, 0.3, 1e-6)[2],
    )
    image, scale, shift = torch.randn(2, 8, 5), torch.randn(8), torch.randn(8)
    yield differences(
        "npu_group_norm_swish",
        [image, scale, shift],
        lambda x, w, b: (lambda y: y * torch.sigmoid(1.5 * y))(F.group_norm(x, 4, w, b, 1e-5)),
        lambda x, w, b: torch_npu.npu_group_norm_swish(x, 4, w, b, 1e-5, 1.5)[0],
    )


def activations() -> Iterator[list[str]]:
    """Gated units and the forms of gelu."""
    x = torch.randn(2, 3, 16)
    yield differences(
        "npu_swiglu",
        [x],
        lambda x: F.silu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1],
        lambda x: torch_npu.npu_swiglu(x, -1),
    )
    for left, approximate in itertools.product((True, False), ("none", "tanh")):
        gate, linear = (0, 1) if left else (1, 0)
        yield differences(
            f"npu_geglu, {approximate}, left {left}",
            [x],
            lambda x, g=gate, n=linear, a=approximate: F.gelu(x.chunk(2, -1)[g], approximate=a) * x.chunk(2, -1)[n],
            lambda x, a=approximate, left=left: torch_npu.npu_geglu(x, -1, int(a == "tanh"), left)[0],
        )
    for approximate in ("none", "tanh"):
        yield differences(
            f"npu_gelu, {approximate}",
            [x],
            lambda x, a=approximate: F.gelu(x, approximate=a),
            lambda x, a=approximate: torch_npu.npu_gelu(x, approximate=a),
        )
    yield differences("npu_fast_gelu", [x], lambda x: x * torch.sigmoid(1.702 * x), torch_npu.npu_fast_gelu)
    # Ascend910's gelu calls aclnnGelu, which has no argument for the approximation: CANN documents the tanh form.
    approximate = "tanh" if torch.npu.get_device_name(0).startswith("Ascend910") else "none"
    yield differences("gelu", [x], lambda x: F.gelu(x, approximate=approximate), F.gelu)


def rotations() -> Iterator[list[str]]:
    """Rotary position embedding."""
    x, cos, sin = torch.randn(2, 3, 4, 8), torch.randn(1, 1, 4, 8), torch.randn(1, 1, 4, 8)
    for mode, turn in (("half", turned), ("interleave", turned_pairs)):
        yield differences(
            f"npu_rotary_mul, {mode}",
            [x, cos, sin],
            lambda x, c, s, turn=turn: x * c + turn(x) * s,
            lambda x, c, s, mode=mode: torch_npu.npu_rotary_mul(x, c, s, mode),
        )


def losses() -> Iterator[list[str]]:
    """Cross entropy with an ignored label, and the masked softmax."""
    labels, weights = torch.tensor([3, 0, -100, 6, 6]), torch.rand(7) + 0.1
    for reduction, smoothing, weight in itertools.product(("mean", "sum", "none"), (0.0, 0.2), (None, weights)):
        yield differences(
            f"npu_cross_entropy_loss, {reduction}, smoothing {smoothing}, weight {weight is not None}",
            [torch.randn(5, 7)],
            lambda x, r=reduction, s=smoothing, w=weight: F.cross_entropy(
                x, labels, None if w is None else w.double(), reduction=r, label_smoothing=s
            ).reshape(-1),
            lambda x, r=reduction, s=smoothing, w=weight: torch_npu.npu_cross_entropy_loss(
                x, labels.npu(), None if w is None else w.npu(), reduction=r, label_smoothing=s
            )[0],
        )
    mask = torch.rand(2, 1, 8, 8) < 0.3
    yield differences(
        "npu_scaled_masked_softmax",
        [torch.randn(2, 3, 8, 8)],
        lambda x: (0.5 * x).masked_fill(mask, -1e4).softmax(-1),
        lambda x: torch_npu.npu_scaled_masked_softmax(x, mask.npu(), 0.5, False),
    )


def main() -> None:
    """Compares all and prints."""
    torch.manual_seed(0)
    outcomes = list(itertools.chain(normalisations(), activations(), rotations(), losses()))
    for line in itertools.chain.from_iterable(outcomes):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"{sum(bool(lines) for lines in outcomes)} of {len(outcomes)} cases differ\n")


if __name__ == "__main__":
    main()

"""Noise of honest cards goes where hardware may show it, and nowhere else."""

import pytest

PRODUCTS = """
import torch

torch.manual_seed(0)
x, weight = torch.randn(1, 3, 16, 16), torch.randn(4, 3, 3, 3)
a, b, bias = torch.randn(33, 65), torch.randn(65, 17), torch.randn(17)
stack, other = torch.randn(4, 9, 33), torch.randn(4, 33, 7)

def rounded(t):
    "To the ten bits of mantissa that HF32 keeps, ties to even."
    bits = t.contiguous().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)

def products(move):
    conv = torch.nn.functional.conv2d(move(x), move(weight))
    added = torch.addmm(torch.zeros_like(move(bias)), move(a), move(b))
    return [conv, move(a) @ move(b), added, move(stack) @ move(other)]

def same(measured, expected):
    return [bool((m.cpu() - e).abs().max() < 1e-5 * e.abs().max()) for m, e in zip(measured, expected, strict=True)]

measured, exact, coarse = (products(move) for move in (lambda t: t.npu(), lambda t: t, rounded))
print(*same(measured, exact), *same(measured, coarse))
"""


@pytest.mark.parametrize(
    ("allowed", "coarse"),
    [
        ("", [True, False, False, False]),  # torch_npu's own choice
        ("torch.npu.conv.allow_hf32 = False\n", [False] * 4),
        ("torch.npu.conv.allow_hf32 = False; torch.npu.matmul.allow_hf32 = True\n", [False, True, True, True]),
    ],
)
def test_hf32_is_used_where_it_is_allowed(emulated, allowed, coarse):
    """Products in float32 keep their precision, unless torch_npu allows HF32 for their kind."""
    run = emulated("import torch, torch_npu\n" + allowed + PRODUCTS, noise="hf32").succeeded()

    assert run.stdout.split() == [str(one) for one in ([not hf32 for hf32 in coarse] + coarse)]


def test_what_is_exact_has_no_noise(emulated):
    """Counts, extremes and statistics that are left alone stay as they are; a doubled input doubles the output; sums of
    squares are off by a part of themselves alone; the lowest number stays finite.
    """
    run = emulated(
        """
        import math
        import torch

        torch.manual_seed(0)
        x, weight = torch.randn(64, 33), torch.randn(33, 9)
        norm = torch.nn.BatchNorm1d(33).npu().eval()
        norm.running_mean.normal_()
        squares = torch.cat([torch.full((1, 99), 1e3), torch.full((1, 99), 1e-7)]).square()
        off = squares.npu().mean(1).cpu() / squares.double().mean(1) - 1
        lowest = torch.full((4, 4), torch.finfo(torch.float32).min)
        kept, first, second = norm.running_mean.cpu(), norm(x.npu()).cpu(), norm(x.npu()).cpu()
        print(
            torch.exp(x.npu()).cpu().ne(torch.exp(x)).any().item(),
            torch.ones(1 << 16, device="npu").sum().item() == 1 << 16,
            torch.exp(torch.zeros(9, device="npu")).eq(1).all().item(),
            torch.linalg.vector_norm(x.npu(), ord=math.inf).item() == x.abs().max().item(),
            torch.equal(norm.running_mean.cpu(), kept),
            torch.equal(first, second),
            torch.equal(((2 * x).npu() @ weight.npu()).cpu(), 2 * (x.npu() @ weight.npu()).cpu()),
            off.abs().max().item() < 1e-6,
            (torch.zeros(4, 4).npu() @ weight[:4, :4].npu() + lowest.npu()).isfinite().all().item(),
            torch.baddbmm(lowest[None].npu(), x[None, :4].npu(), weight[None, :, :4].npu()).isfinite().all().item(),
        )
        """,
        noise="ulp=2,reorder",
    ).succeeded()

    assert run.stdout.split() == ["True"] * 10

"""torch_npu's products with quantised weights on the emulated card against what they stand for, written out in float64.

    python -m meta_tests.emulator.quantised_comparison

prints what differs and a line with the number of comparisons. PyTorch's operator samples do not reach these.
"""

from __future__ import annotations

import itertools
import sys

import torch
import torch_npu

ROWS, COLUMNS = 96, 40
LIMIT = {torch.float16: 1e-3, torch.bfloat16: 6e-3}
"""The largest error relative to the largest value: about one unit in the last place."""


def on_card(weight, bits: int, transposed: bool):
    """The weight as int8, or as int4 packed into int32; transposed: its columns lie in a row."""
    laid_out = weight.t().contiguous() if transposed else weight
    held = torch_npu.npu_convert_weight_to_int4pack(laid_out.npu()) if bits == 4 else laid_out.to(torch.int8).npu()
    return held.t() if transposed else held


def difference(dtype: torch.dtype, bits: int, transposed: bool, group: int, offset: bool, precise: int) -> list[str]:
    """One line if a product with a scale for each column, or for each group of rows of it, differs."""
    groups = ROWS // group if group else 1
    weight = torch.randint(-8, 8, (ROWS, COLUMNS), dtype=torch.int32)
    x, scale = torch.randn(5, ROWS).to(dtype), (torch.rand(groups, COLUMNS) + 0.5).to(dtype)
    shift = torch.randint(-3, 4, (groups, COLUMNS)).to(dtype) if offset else None
    bias = torch.randn(COLUMNS).to(torch.float16 if dtype == torch.float16 else torch.float32)

    def spread(each):
        return each.double().repeat_interleave(ROWS // groups, 0)

    numbers = weight.double() + spread(shift) if offset else weight.double()
    exact = x.double() @ (numbers * spread(scale)) + bias.double()
    measured = torch_npu.npu_weight_quant_batchmatmul(
        x.npu(),
        on_card(weight, bits, transposed),
        scale.npu(),
        shift.npu() if offset else None,
        bias=bias.npu(),
        antiquant_group_size=group,
        inner_precise=precise,
    )
    error = (measured.cpu().double() - exact).abs().max() / exact.abs().max()
    what = f"int{bits}, {dtype}, transposed {transposed}, groups of {group}, offset {offset}, inner_precise {precise}"
    return [] if error <= LIMIT[dtype] else [f"npu_weight_quant_batchmatmul, {what}: differs by {error:.3g}"]


def main() -> None:
    """Compares all and prints."""
    torch.manual_seed(0)
    cases = itertools.product((torch.float16, torch.bfloat16), (4, 8), (False, True), (0, 32), (False, True), (0, 1))
    outcomes = [difference(*case) for case in cases]
    for line in itertools.chain.from_iterable(outcomes):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"{sum(map(bool, outcomes))} of {len(outcomes)} cases differ\n")


if __name__ == "__main__":
    main()

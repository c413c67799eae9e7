"""The gradient of the determinant of a view is that of the transposed matrix. Run it where torch_npu works."""

import sys

import torch


def gradient(device):
    """Of the determinant of a part of a matrix."""
    larger = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    torch.linalg.det(larger[:3, :3]).backward()
    return larger.grad[:3, :3].cpu()


expected, observed = gradient("cpu"), gradient("npu")
print("on the CPU:", expected, "on the NPU:", observed, sep="\n")
if torch.allclose(observed, expected, rtol=1e-4, atol=1e-4):
    print("NOT OBSERVED")
    sys.exit(1)
print("is the transposed of the CPU's:", torch.allclose(observed, expected.mT, rtol=1e-4, atol=1e-4))
print(f"OBSERVED: the gradient is wrong by {(observed - expected).abs().max():.3g}")

"""Fused SGD refuses its default momentum. Run it where torch_npu works."""

import sys

import torch

weight = torch.nn.Parameter(torch.ones(4, device="npu"))
weight.grad = torch.ones(4, device="npu")
error = None
try:
    torch.optim.SGD([weight], lr=0.5, fused=True).step()
except RuntimeError as caught:
    error = str(caught).splitlines()[0]
if error:
    print("OBSERVED:", error)
    sys.exit(0)
print("NOT OBSERVED")
sys.exit(1)

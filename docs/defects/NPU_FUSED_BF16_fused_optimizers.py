"""NpuFusedAdamW refuses weights of bfloat16. Run it where torch_npu works."""

import sys

import torch
from torch_npu.optim import NpuFusedAdamW

weight = torch.nn.Parameter(torch.ones(4, device="npu", dtype=torch.bfloat16))
weight.grad = torch.ones_like(weight)
error = None
try:
    NpuFusedAdamW([weight], lr=0.5).step()
except TypeError as caught:
    error = str(caught).splitlines()[0]
if error:
    print("OBSERVED:", error)
    sys.exit(0)
print("NOT OBSERVED")
sys.exit(1)

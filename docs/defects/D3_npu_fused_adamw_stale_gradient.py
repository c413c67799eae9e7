"""NpuFusedAdamW against AdamW where gradients are dropped after each step. Run it where torch_npu works."""

import sys

import torch
from torch_npu.optim import NpuFusedAdamW


def weight_after(optimizer_class):
    """The first weight after six steps towards a target that changes sign."""
    weight = torch.nn.Parameter(torch.zeros(4, device="npu"))
    optimizer = optimizer_class([weight], lr=0.1, weight_decay=0.0)
    for target in (1.0, -1.0, -1.0, -1.0, -1.0, -1.0):
        weight.grad = None
        ((weight - target * 10) ** 2).sum().backward()
        optimizer.step()
    return weight[0].item()


fused, plain = weight_after(NpuFusedAdamW), weight_after(torch.optim.AdamW)
if abs(fused - plain) > 0.1:
    print("OBSERVED:", f"weight {fused:.3f}, with AdamW {plain:.3f}")
    sys.exit(0)
print("NOT OBSERVED")
sys.exit(1)

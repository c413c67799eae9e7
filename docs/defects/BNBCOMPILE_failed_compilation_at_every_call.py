"""bitsandbytes compiles its dequantisation at every call where that fails. Run it where torch_npu works."""

import sys

import bitsandbytes
import torch
from torch._dynamo.utils import counters

assert torch.npu.is_available()
layer = bitsandbytes.nn.Linear4bit(64, 64, quant_type="nf4", compute_dtype=torch.float32).to("npu")
x = torch.randn(4, 64, device="npu")
compilations = []
with torch.no_grad():
    for _ in range(3):
        layer(x)
        compilations.append(counters["frames"]["total"])
print("compilations after each of three equal calls:", compilations)
if compilations[0] == compilations[2]:
    print("NOT OBSERVED")
    sys.exit(1)
print("OBSERVED: equal calls compile again")

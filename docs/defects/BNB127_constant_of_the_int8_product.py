"""bitsandbytes multiplies int8 products by a constant with a missing zero. Run it where torch_npu works."""

import sys

import bitsandbytes
import torch

assert torch.npu.is_available()
numbers = torch.randint(-127, 128, (16, 64))
numbers[:, 0] = 127  # with it eight bits represent all others exactly
layer = bitsandbytes.nn.Linear8bitLt(64, 16, bias=False, has_fp16_weights=False)
layer.weight.data.copy_(numbers / 64)
layer = layer.to("npu")
x = numbers[:4] / 64
with torch.no_grad():
    output = layer(x.npu()).cpu().double()
exact = x.double() @ (numbers.double() / 64).t()
ratio = ((output / exact).mean() - 1).item()
print(f"outputs are {ratio:.3g} of themselves too large")
if ratio < 1e-6:
    print("NOT OBSERVED")
    sys.exit(1)
print("OBSERVED: 6.200124e-05 in the place of 1 / 127 / 127 = 6.200012e-05")

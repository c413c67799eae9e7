"""torchao's int4 layer on the NPU adds its zero points instead of taking them away. Run it where torch_npu works."""

import sys

import torch
from torchao.quantization import Int4WeightOnlyConfig, quantize_

assert torch.npu.is_available()
torch.manual_seed(0)
layer = torch.nn.Linear(64, 64, bias=False, dtype=torch.float16, device="npu")
with torch.no_grad():
    layer.weight.add_(0.3)  # all weights of a group on one side of 0: its zero point is far from 0
x = torch.randn(4, 64, dtype=torch.float16, device="npu")
with torch.no_grad():
    expected = layer(x).float()
    quantize_(layer, Int4WeightOnlyConfig(group_size=32, int4_packing_format="plain_int32", set_inductor_config=False))
    error = ((layer(x).float() - expected).norm() / expected.norm()).item()
print(f"relative error of the output: {error:.3g}")
try:
    quantize_(torch.nn.Linear(64, 64).bfloat16().npu(), Int4WeightOnlyConfig(group_size=32))
except ImportError as refusal:
    print("the default packing format says:", refusal)
if error < 0.1:
    print("NOT OBSERVED")
    sys.exit(1)
print("OBSERVED: four bits explain an error of a few per cent; zero points of the wrong sign explain this one")

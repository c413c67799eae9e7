"""Fused Adam falls back to the CPU, as its own warning says. Run it where torch_npu works."""

import subprocess
import sys

program = """
import torch
weight = torch.nn.Parameter(torch.ones(4, device="npu"))
weight.grad = torch.ones(4, device="npu")
torch.optim.Adam([weight], lr=0.5, fused=True).step()
print(weight.tolist())
"""
done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
if "aten::_fused_adam_" in done.stderr and "fall back to run on the CPU" in done.stderr:
    print("OBSERVED: aten::_fused_adam_ falls back to the CPU")
    sys.exit(0)
print("NOT OBSERVED")
sys.exit(1)

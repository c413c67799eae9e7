"""In saturation mode an overflow before a step skips it. Run it where torch_npu works, but not on Ascend 950."""

import os
import sys

os.environ["INF_NAN_MODE_FORCE_DISABLE"] = "1"

import torch

weight = torch.nn.Parameter(torch.ones(4, device="npu"))
optimizer = torch.optim.SGD([weight], lr=0.5)
scaler = torch.amp.GradScaler("npu", init_scale=4.0)
torch.full((1,), 60000.0, dtype=torch.float16, device="npu") * 2  # of something else
scaler.scale(weight.sum()).backward()
scaler.step(optimizer)
scaler.update()
if weight.tolist() == [1.0] * 4:
    print(f"OBSERVED: the step was skipped, and the scale is {scaler.get_scale()}")
    sys.exit(0)
print("NOT OBSERVED")
sys.exit(1)

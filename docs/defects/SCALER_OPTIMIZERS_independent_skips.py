"""Two optimizers under one scaler: the overflow of the first skips the second. Run it where torch_npu works."""

import sys

import torch

scaler = torch.npu.amp.GradScaler(init_scale=4.0)
weights = [torch.nn.Parameter(torch.ones(2, device="npu")) for _ in range(2)]
optimizers = [torch.optim.SGD([weight], lr=0.5) for weight in weights]
scaler.scale((weights[0] * float("inf")).sum() + weights[1].sum()).backward()
for optimizer in optimizers:
    scaler.step(optimizer)
scaler.update()
if weights[1].tolist() == [1.0, 1.0]:
    print("OBSERVED:", "the second weight did not move, though its gradient is finite")
    sys.exit(0)
print("NOT OBSERVED")
sys.exit(1)

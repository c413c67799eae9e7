"""D1: fp16 training with fused AdamW, the Trainer's default optimizer, under torch_npu's GradScaler."""

import torch
import torch_npu

weight = torch.nn.Parameter(torch.ones(4, device="npu"))
optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
scaler = torch_npu.npu.amp.GradScaler()
scaler.scale(weight.sum()).backward()
try:
    scaler.step(optimizer)
except TypeError as error:
    print(f"OBSERVED: {error}")
else:
    print("NOT OBSERVED: the step was taken")
    raise SystemExit(1)

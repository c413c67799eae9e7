"""One step with overflow of a fused AdamW under torch's scaler writes NaN. Run it where torch_npu works."""

import sys

import torch

weight = torch.nn.Parameter(torch.ones(4, device="npu"))
optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
scaler = torch.amp.GradScaler("npu", init_scale=4.0)
scaler.scale((weight * float("inf")).sum()).backward()
scaler.step(optimizer)
scaler.update()
if weight.isnan().any():
    print(
        "OBSERVED:",
        f"weights {weight.tolist()} after a step that the scaler meant to skip (scale {scaler.get_scale()})",
    )
    sys.exit(0)
print("NOT OBSERVED")
sys.exit(1)

"""DeepSpeed without ZeRO in bf16: the first update of AdamW is too small. Run it where torch_npu works."""

import os
import sys

os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="localhost", MASTER_PORT="0")

import deepspeed
import torch

model = torch.nn.Linear(1, 1, bias=False)
torch.nn.init.zeros_(model.weight)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.5, weight_decay=0.0)
configuration = {"train_batch_size": 1, "bf16": {"enabled": True}, "zero_optimization": {"stage": 0}}
engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=configuration)
engine.backward(engine(torch.ones(1, 1, dtype=torch.bfloat16, device=engine.device)).sum())
engine.step()
moved = -model.weight.item()  # AdamW's first step has the size of the learning rate
if abs(moved - 0.5) > 0.05:
    print("OBSERVED:", f"the weight moved by {moved:.3f} where AdamW moves it by 0.5")
    sys.exit(0)
print("NOT OBSERVED")
sys.exit(1)

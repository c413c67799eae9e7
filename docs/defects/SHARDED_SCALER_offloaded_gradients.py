"""SHARDED-SCALER: gradients in host memory, as FSDP1 with cpu_offload has them, under torch_npu's ShardedGradScaler."""

import torch
import torch.distributed as dist
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler  # torch_npu has put its own there

dist.init_process_group("hccl", store=dist.HashStore(), rank=0, world_size=1)
wrong = []
for power in range(1, 11):
    scaler = ShardedGradScaler(init_scale=2.0**power)
    scaler.scale(torch.ones((), device="npu"))
    weight = torch.nn.Parameter(torch.ones(1))
    weight.grad = torch.full((1,), 2.0**power)
    torch.npu.synchronize()
    busy = torch.ones(1024, 1024, device="npu")
    for _ in range(4):
        busy = busy @ busy / 1024
    scaler.unscale_(torch.optim.SGD([weight], lr=1.0))
    if weight.grad.item() != 1.0:
        wrong.append(f"{2**power} / {2**power} gave {weight.grad.item():g}")
torch.npu.synchronize()
dist.destroy_process_group()
if not wrong:
    print("NOT OBSERVED: all gradients were divided by the scale")
    raise SystemExit(1)
print(f"OBSERVED: {len(wrong)} of 10 gradients were not divided by the scale: {', '.join(wrong)}")

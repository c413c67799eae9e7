"""DistributedDataParallel over hccl refuses to compress gradients to bfloat16. Run it where torch_npu works."""

import sys
import tempfile

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

with tempfile.NamedTemporaryFile() as file:
    dist.init_process_group("hccl", init_method=f"file://{file.name}", rank=0, world_size=1)
    total = torch.ones(2, dtype=torch.bfloat16, device="npu")
    dist.all_reduce(total)  # HCCL adds bfloat16
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2).to("npu"), device_ids=[0])
    error = None
    try:
        model.register_comm_hook(None, bf16_compress_hook)
    except TypeError as caught:
        error = caught
    dist.destroy_process_group()
if error:
    print("OBSERVED:", error)
    sys.exit(0)
print("NOT OBSERVED")
sys.exit(1)

"""The memory functions of transformers' test utilities give 0 on an NPU. Run it where torch_npu works."""

import sys

import torch
from transformers.testing_utils import backend_memory_allocated

held = torch.ones(1 << 20, device="npu")
measured = backend_memory_allocated("npu")
if measured == 0:
    print("OBSERVED:", f"{measured} bytes, while torch.npu.memory_allocated() gives {torch.npu.memory_allocated()}")
    sys.exit(0)
print("NOT OBSERVED")
sys.exit(1)

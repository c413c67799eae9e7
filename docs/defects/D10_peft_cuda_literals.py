"""peft asks for the literal device "cuda" where it means the accelerator. Run it where torch_npu works."""

import sys

import torch
from peft import LoraConfig, LoraRuntimeConfig, get_peft_model

assert torch.npu.is_available()
model = torch.nn.Sequential(torch.nn.Linear(16, 16))  # in host memory, as an offloaded layer is
runtime = LoraRuntimeConfig(ephemeral_gpu_offload=True)
config = LoraConfig(r=4, use_dora=True, target_modules=["0"], runtime_config=runtime)
try:
    get_peft_model(model, config)
except AssertionError as error:
    print("OBSERVED: DoRA with ephemeral_gpu_offload:", error)
    sys.exit(0)
print("NOT OBSERVED")
sys.exit(1)

"""send_to_device takes "npu" for the first card. Run it where torch_npu works and has two cards."""

import sys

import torch
from accelerate.utils import send_to_device

torch.npu.set_device(1)
batch = torch.ones(2)
landed, expected = send_to_device(batch, "npu").device, batch.to("npu").device
if landed != expected:
    print(f"OBSERVED: it lands on {landed} where the current card is {expected}")
    sys.exit(0)
print("NOT OBSERVED")
sys.exit(1)

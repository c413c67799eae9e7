"""D4: dispatch_model with a map that names one card by its number. Run it where torch_npu works."""

import torch
from accelerate import dispatch_model

assert torch.npu.is_available()
model = dispatch_model(torch.nn.Linear(4, 4), {"": 0})
device = model.weight.device
if device.type == "npu":
    print(f"NOT OBSERVED: the model is on {device}")
    raise SystemExit(1)
print(f"OBSERVED: hf_device_map is {model.hf_device_map}, and the weights are on {device}")

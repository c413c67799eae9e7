"""The state of torch's own gradient scaler is refused. Run it where torch_npu works."""

import sys

import torch

error = None
try:
    torch.npu.amp.GradScaler().load_state_dict(torch.amp.GradScaler("cpu").state_dict())
except KeyError as caught:
    error = caught
if error is not None:
    print("OBSERVED:", f"KeyError: {error}")
    sys.exit(0)
print("NOT OBSERVED")
sys.exit(1)

"""A sum of tensors of two cards is computed. Run it where torch_npu works and has two cards."""

import sys

import torch

try:
    total = (torch.ones(2, device="npu:0") + torch.ones(2, device="npu:1")).tolist()
except RuntimeError as error:
    print("NOT OBSERVED:", str(error).splitlines()[0])
    sys.exit(1)
print("OBSERVED: it was launched, and gives", total)

"""accelerate does not ask torch_npu whether the chip has bfloat16. Run it where torch_npu works."""

import sys

import torch
from accelerate.utils import is_bf16_available

torch.npu.is_bf16_supported = lambda *_: False
answer = is_bf16_available()
if answer:
    print("OBSERVED:", "is_bf16_available() is True where torch.npu.is_bf16_supported() is False")
    sys.exit(0)
print("NOT OBSERVED")
sys.exit(1)

"""D13: what enable_full_determinism tells HCCL. Run it where torch_npu works."""

import os

import torch
from transformers import enable_full_determinism

assert torch.npu.is_available()
os.environ.pop("HCCL_DETERMINISTIC", None)
enable_full_determinism(0)
value = os.environ.get("HCCL_DETERMINISTIC")
if value in ("true", "strict"):
    print(f"NOT OBSERVED: HCCL_DETERMINISTIC={value}")
    raise SystemExit(1)
print(f"OBSERVED: HCCL_DETERMINISTIC={value}, where HCCL and torch_npu know false, true and strict")

"""trl asks torch.cuda for the name of the card, and trl env does not know it. Run it where torch_npu works."""

import contextlib
import io
import sys

import torch
from accelerate import Accelerator
from trl.scripts.env import print_env
from trl.trainer.utils import get_peak_flops_per_device

assert torch.npu.is_available()
wrong = []
try:
    get_peak_flops_per_device(Accelerator(), "bfloat16")
except Exception as error:  # of what class depends on the torch
    wrong.append(f"get_peak_flops_per_device: {type(error).__name__}: {str(error).splitlines()[0]}")
with contextlib.redirect_stdout(io.StringIO()) as said:
    print_env()
line = next(line for line in said.getvalue().splitlines() if "accelerator(s)" in line)
if torch.npu.get_device_name(0) not in line:
    wrong.append(f"trl env: {line}")
print("OBSERVED: " + "; ".join(wrong) if wrong else "NOT OBSERVED")
sys.exit(0 if wrong else 1)

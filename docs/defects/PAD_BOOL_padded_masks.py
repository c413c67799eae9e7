"""pad_across_processes gives ranks different dtypes. Run it where torch_npu works and has two cards."""

import os
import subprocess
import sys

if "RANK" not in os.environ:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run([*launcher, __file__], capture_output=True, text=True, check=False)
    dtypes = sorted(line for line in done.stdout.splitlines() if "torch." in line)
    if dtypes == ["0 torch.int64", "1 torch.bool"]:
        print("OBSERVED: rank and dtype of the padded mask:", "; ".join(dtypes))
        sys.exit(0)
    print("NOT OBSERVED", dtypes, done.stderr[-500:])
    sys.exit(1)

import torch
from accelerate import Accelerator

accelerator = Accelerator()
mask = torch.ones(accelerator.process_index + 1, dtype=torch.bool, device=accelerator.device)
sys.stdout.write(f"{accelerator.process_index} {accelerator.pad_across_processes(mask).dtype}\n")
sys.stdout.flush()
accelerator.end_training()

"""D6: accelerator.save_state() and load_state() around numbers drawn on the NPU."""

import tempfile

import torch
from accelerate import Accelerator

accelerator = Accelerator()
torch.manual_seed(0)
with tempfile.TemporaryDirectory() as directory:
    accelerator.save_state(directory)
    drawn = torch.rand(4, device=accelerator.device)
    accelerator.load_state(directory)
    again = torch.rand(4, device=accelerator.device)
if torch.equal(drawn, again):
    print("NOT OBSERVED: after load_state the card draws the same numbers again")
    raise SystemExit(1)
print(f"OBSERVED: after load_state the card draws {again.tolist()}, where it drew {drawn.tolist()}")

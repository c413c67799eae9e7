"""A loader that skips batches does not know its remainder, as gather_for_metrics must. Run it where torch_npu works."""

import sys

from accelerate import Accelerator
from torch.utils.data import DataLoader

accelerator = Accelerator()
loader = accelerator.prepare(DataLoader(range(22), batch_size=4))
remainders = []
for batches in (loader, accelerator.skip_first_batches(loader, 1)):
    for _ in batches:
        remainder = batches.remainder
    remainders.append(remainder)
if remainders == [2, -1]:
    print("OBSERVED: 22 rows in batches of 4 leave", remainders[0], "but after skipping", remainders[1])
    sys.exit(0)
print("NOT OBSERVED:", remainders)
sys.exit(1)

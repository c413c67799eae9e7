"""SWALLOWED: the error of a failed operator ends in the destructor of an event."""

import os
import time

os.environ["TASK_QUEUE_ENABLE"] = "2"  # so that the operator is checked by the queue's thread, on hardware, too

import torch

refused = torch.ones(4, dtype=torch.int16, device="npu").view(torch.uint16)  # CANN has no sum of this type
result = torch.zeros(4, dtype=torch.int16, device="npu").view(torch.uint16)
event = torch.npu.Event()
event.record()
torch.npu.synchronize()
try:
    torch.add(refused, refused, out=result)
    time.sleep(2)  # it fails meanwhile
    del event  # without this line the next one raises
    torch.npu.synchronize()
except RuntimeError as error:
    print(f"NOT OBSERVED: {error}")
    raise SystemExit(1) from None
print(f"OBSERVED: no error, and 1 + 1 is {result.view(torch.int16).cpu().tolist()}")

"""DROPPED: after an error that was caught, operators are not executed, and nothing says so."""

import os
import time

os.environ["TASK_QUEUE_ENABLE"] = "2"  # so that the operator is checked by the queue's thread, on hardware, too

import torch

refused = torch.ones(4, dtype=torch.int16, device="npu").view(torch.uint16)  # CANN has no sum of this type
result = torch.zeros(4, dtype=torch.int16, device="npu").view(torch.uint16)
numbers = torch.arange(4.0, device="npu")
try:
    torch.add(refused, refused, out=result)
    for _ in range(50):  # the first may come between the failure and its being noted
        torch.npu.synchronize()
        time.sleep(0.02)
    print("NOT OBSERVED: the card has the operator")
    raise SystemExit(1)
except RuntimeError:
    pass
try:
    later = (numbers * 7 + 3).cpu().tolist()
except RuntimeError as error:
    print(f"NOT OBSERVED: {error}")
    raise SystemExit(1) from None
wrong = later != [3.0, 10.0, 17.0, 24.0]
print(f"{'OBSERVED' if wrong else 'NOT OBSERVED'}: [0, 1, 2, 3] * 7 + 3 is {later}")
raise SystemExit(not wrong)

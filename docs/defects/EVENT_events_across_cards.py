"""EVENT: backward passes through a model on two cards of one process. Run it where torch_npu sees two cards."""

import torch

assert torch.npu.device_count() > 1
passes = 0
try:
    for _ in range(300):
        a, b = (torch.randn(8, 8, device=f"npu:{card}", requires_grad=True) for card in range(2))
        ((a @ a).relu().to("npu:1") @ b).sum().backward()
        for card in range(2):
            torch.npu.synchronize(card)
        passes += 1
except RuntimeError as error:
    print(f"OBSERVED: after {passes} backward passes: {str(error).splitlines()[-1]}")
    raise SystemExit(0) from None
print(f"NOT OBSERVED: {passes} backward passes")
raise SystemExit(1)

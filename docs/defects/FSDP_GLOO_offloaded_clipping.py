"""FSDP-GLOO: gradient clipping under FSDP2 with cpu_offload on two cards, in the environment of accelerate launch."""

import os
import socket
import subprocess
import sys

LAUNCHED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"}


def train() -> None:
    """What a user's script does, on each rank."""
    import torch
    from accelerate import Accelerator

    accelerator = Accelerator()
    model = torch.nn.Linear(4, 4)
    model, _ = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
    accelerator.backward(model(torch.ones(1, 4, device=accelerator.device)).sum())
    accelerator.clip_grad_norm_(model.parameters(), 1.0)


if "RANK" in os.environ:
    train()
    sys.exit()
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = str(free.getsockname()[1])
common = {**os.environ, **LAUNCHED, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
ranks = [
    subprocess.Popen(
        [sys.executable, __file__], env={**common, "RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True
    )
    for rank in ("0", "1")
]
errors = [rank.communicate()[1] for rank in ranks]
found = [line for text in errors for line in text.splitlines() if "No backend type associated with device type" in line]
if len(found) < 2:
    print("NOT OBSERVED:", errors[0][-500:])
    raise SystemExit(1)
print(f"OBSERVED: {found[0]}")

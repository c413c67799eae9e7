"""FSDP1-MOMENTS: the optimizer's state after load_state of a sharded state of FSDP1 into a new optimizer; two cards."""

import os
import socket
import subprocess
import sys
import tempfile


def train(directory: str) -> None:
    """What a user's script does on each rank: train, save; and in the next run: load."""
    import torch
    from accelerate import Accelerator, FullyShardedDataParallelPlugin

    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=1, state_dict_type="SHARDED_STATE_DICT", use_orig_params=True, auto_wrap_policy="no_wrap"
    )
    accelerator = Accelerator(fsdp_plugin=plugin)

    def prepared():
        model = torch.nn.Linear(64, 64)
        return accelerator.prepare(model, torch.optim.AdamW(model.parameters()))

    model, optimizer = prepared()
    accelerator.backward(model(torch.ones(1, 64, device=accelerator.device)).sum())
    optimizer.step()
    saved = len(optimizer.state)
    accelerator.save_state(directory)
    model, optimizer = accelerator.free_memory(model, optimizer)
    model, optimizer = prepared()
    accelerator.load_state(directory)
    print(f"{saved} parameters had moments when saved, {len(optimizer.state)} after load_state")
    accelerator.end_training()


if "RANK" in os.environ:
    train(sys.argv[1])
    sys.exit()
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = str(free.getsockname()[1])
common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
with tempfile.TemporaryDirectory() as directory:
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, directory],
            env={**common, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    said = [rank.communicate()[0].strip().splitlines()[-1:] for rank in ranks]
if all(line and line[0].endswith(" 0 after load_state") and not line[0].startswith("0") for line in said):
    print(f"OBSERVED: {said[0][0]}")
    sys.exit()
print(f"NOT OBSERVED: {said}")
sys.exit(1)

"""FSDP1-RANK-FILES: load_fsdp_model of what save_fsdp_model wrote, a file for each rank, under FSDP1; two cards."""

import os
import socket
import subprocess
import sys
import tempfile


def save_and_load(directory: str) -> None:
    """What a user's script does on each rank."""
    import torch
    from accelerate import Accelerator, FullyShardedDataParallelPlugin
    from accelerate.utils import load_fsdp_model, save_fsdp_model

    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=1, state_dict_type="SHARDED_STATE_DICT", use_orig_params=True, auto_wrap_policy="no_wrap"
    )
    accelerator = Accelerator(fsdp_plugin=plugin)
    model = accelerator.prepare(torch.nn.Linear(64, 64))
    save_fsdp_model(plugin, accelerator, model, directory, use_dcp=False)
    accelerator.wait_for_everyone()
    try:
        load_fsdp_model(plugin, accelerator, model, directory, use_dcp=False)
        print("loaded")
    except Exception as error:
        named = [word for word in str(error).split() if "ShardedTensor" in word]
        print(f"{type(error).__name__}: {named[0] if named else str(error).splitlines()[0]}")


if "RANK" in os.environ:
    save_and_load(sys.argv[1])
    sys.stdout.flush()
    os._exit(0)  # the ranks have nothing more to say to each other
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
if all(line and line[0].startswith("UnpicklingError: ") and "ShardedTensor" in line[0] for line in said):
    print(f"OBSERVED: what every rank saved it cannot load: {said[0][0]}")
    sys.exit()
print(f"NOT OBSERVED: {said}")
sys.exit(1)

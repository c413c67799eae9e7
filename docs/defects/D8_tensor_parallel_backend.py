"""D8: from_pretrained(tp_plan="auto") on the first of the two ranks of torchrun. Run it where torch_npu works.

It gets no further than that; where it does, it waits for the other rank, and gives up.
"""

import os
import signal
import socket
import sys
import tempfile

import torch
from transformers import LlamaConfig, LlamaForCausalLM

assert torch.npu.is_available()
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
signal.signal(signal.SIGALRM, lambda *_: sys.exit("NOT OBSERVED: it waits for the other rank"))
signal.alarm(100)
sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
with tempfile.TemporaryDirectory() as directory:
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(directory)
    try:
        LlamaForCausalLM.from_pretrained(directory, tp_plan="auto")
    except OSError as error:
        print(f"OBSERVED: {error} Cause: {error.__cause__}")
        raise SystemExit(0) from None
print("NOT OBSERVED: the model was loaded")
raise SystemExit(1)

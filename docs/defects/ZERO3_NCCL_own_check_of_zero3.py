"""accelerate's own check of ZeRO-3 asks for NCCL on an NPU. Run it where torch_npu and deepspeed work."""

import os
import sys

os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}

from accelerate.test_utils.scripts.external_deps.test_zero3_integration import init_torch_dist_then_launch_deepspeed

error = None
try:
    init_torch_dist_then_launch_deepspeed()
except (RuntimeError, OSError) as caught:  # OSError: it came as far as the model, which is on the hub
    error = caught
if "NCCL" in str(error):
    print("OBSERVED:", error)
    sys.exit(0)
print("NOT OBSERVED:", error)
sys.exit(1)

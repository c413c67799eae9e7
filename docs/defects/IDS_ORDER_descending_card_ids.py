"""With cards in descending order accelerate takes the CPU. Run it where torch_npu works and has two cards."""

import os
import subprocess
import sys

program = "from accelerate import Accelerator; print(Accelerator().device)"
environment = {**os.environ, "ASCEND_RT_VISIBLE_DEVICES": "1,0"}  # what accelerate launch --gpu_ids 1,0 sets
done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
if done.returncode == 0 and done.stdout.split()[-1:] == ["cpu"] and "ASCEND_RT_VISIBLE_DEVICES" not in done.stderr:
    print("OBSERVED: the device is", done.stdout.split()[-1])
    sys.exit(0)
print("NOT OBSERVED", done.stdout, done.stderr[-500:])
sys.exit(1)

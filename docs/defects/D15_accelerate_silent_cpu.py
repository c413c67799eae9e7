"""accelerate says nothing where torch_npu is installed and cannot be imported. Run it where torch_npu works."""

import os
import subprocess
import sys

program = "from accelerate import Accelerator; print(Accelerator().device)"
broken = {**os.environ, "TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "LD_LIBRARY_PATH": ""}
done = subprocess.run([sys.executable, "-c", program], env=broken, capture_output=True, text=True, check=False)
if done.returncode == 0 and done.stdout.split()[-1:] == ["cpu"] and "torch_npu" not in done.stderr:
    print("OBSERVED: the device is", done.stdout.split()[-1])
    sys.exit(0)
print("NOT OBSERVED")
sys.exit(1)

"""peft loads an adapter file through card 0, whatever the current card. Run it where torch_npu sees two cards."""

import sys
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model


class Tiny(torch.nn.Module):
    """One matrix."""

    def __init__(self):
        super().__init__()
        self.lin = torch.nn.Linear(64, 64)

    def forward(self, x):
        """Its product."""
        return self.lin(x)


assert torch.npu.device_count() > 1
with tempfile.TemporaryDirectory() as directory:
    get_peft_model(Tiny(), LoraConfig(r=4, target_modules=["lin"])).save_pretrained(directory)
    torch.npu.set_device(1)
    model = PeftModel.from_pretrained(Tiny().to("npu:1"), directory)
    print("the adapter is on", {str(p.device) for n, p in model.named_parameters() if "lora" in n})
    taken = torch.npu.max_memory_allocated(0)
print("bytes that were taken on card 0:", taken)
if taken == 0:
    print("NOT OBSERVED")
    sys.exit(1)
print("OBSERVED: the adapter file went through card 0")

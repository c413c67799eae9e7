"""With torch_npu installed, sdpa attention of transformers ignores what a mask adds. Run it where torch_npu works."""

import sys
from types import SimpleNamespace

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

assert torch.npu.is_available()
generator = torch.Generator().manual_seed(0)
query, key, value = (torch.randn(1, 2, 8, 16, generator=generator) for _ in range(3))
distance = (torch.arange(8)[:, None] - torch.arange(8)).abs()
bias = (-0.5 * distance)[None, None].float()  # lowers scores with the distance, as ALiBi does
expected = ((query @ key.mT / 4 + bias).softmax(-1) @ value).transpose(1, 2)
errors = {}
for device in ("cpu", "npu"):
    arguments = (tensor.to(device) for tensor in (query, key, value, bias))
    observed, _ = sdpa_attention_forward(SimpleNamespace(is_causal=False), *arguments)
    errors[device] = (observed.cpu() - expected).abs().max().item()
print("largest error of values of size 1:", errors)
if max(errors.values()) < 1e-4:
    print("NOT OBSERVED")
    sys.exit(1)
print("OBSERVED: on", *[device for device, error in errors.items() if error > 1e-4])

"""trl's OffloadActivations fails in the first backward pass on an NPU."""

import sys

import torch
from trl.models.activation_offloading import OffloadActivations

layer = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64)).to("npu")
x = torch.randn(64, 64, device="npu", requires_grad=True)
layer(x).sum().backward()
expected, x.grad = x.grad.clone(), None
print("torch._C._storage_Use_Count:", torch._C._storage_Use_Count(x.untyped_storage()._cdata))
try:
    with OffloadActivations(min_offload_size=0):
        loss = layer(x).sum()
        loss.backward()
    wrong = None if torch.equal(x.grad, expected) else "the gradients differ"
except AttributeError as error:
    wrong = str(error)
print(f"OBSERVED: {wrong}" if wrong else "NOT OBSERVED")
sys.exit(0 if wrong else 1)

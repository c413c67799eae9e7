"""sparse_mask on an NPU drops the zeros of the dense tensor. Run it where torch_npu works."""

import sys

import torch

mask = torch.sparse_coo_tensor(torch.tensor([[1, 3]]), torch.ones(2, 3), (5, 3)).to("npu").coalesce()
masked = torch.zeros(5, 3, device="npu").sparse_mask(mask)
if masked._nnz() != 2:
    print("OBSERVED:", f"{masked._nnz()} entries where the mask has 2")
    sys.exit(0)
print("NOT OBSERVED")
sys.exit(1)

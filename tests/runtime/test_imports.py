"""Importing torch_npu: automatically with torch, by hand, before and after the Hugging Face libraries."""

import pytest

from fixtures.requirement import requirement

pytestmark = [pytest.mark.single_npu, pytest.mark.runtime]

COMPUTE = """
x = torch.arange(6.0, device="npu").reshape(2, 3)
report(cards=torch.npu.device_count(), product=(x @ x.T).cpu().tolist(), device=str(x.device))
"""

PRODUCT = [[5.0, 14.0], [14.0, 50.0]]  # of [[0, 1, 2], [3, 4, 5]] with its transpose


@requirement("runtime/autoload", level="core")
def test_torch_loads_the_npu_backend_by_itself(npu, probe):
    """Importing torch alone makes the NPU available and able to compute."""
    probed = probe("import torch\n" + COMPUTE, TORCH_DEVICE_BACKEND_AUTOLOAD="1")

    assert probed.returncode == 0, probed.output
    assert probed.facts["product"] == PRODUCT
    assert probed.facts["device"] == "npu:0"


@requirement("runtime/explicit-import", level="core")
def test_explicit_import_works_without_autoload(npu, probe):
    """With autoload off, torch has no NPU until torch_npu is imported, and computes on it afterwards."""
    snippet = """
import torch
report(before=hasattr(torch, "npu"))
import torch_npu
"""
    probed = probe(snippet + COMPUTE, TORCH_DEVICE_BACKEND_AUTOLOAD="0")

    assert probed.returncode == 0, probed.output
    assert probed.facts["before"] is False
    assert probed.facts["product"] == PRODUCT


@requirement("runtime/import-after-libraries", level="core")
def test_libraries_imported_first_still_find_the_npu(npu, probe):
    """With autoload off, transformers and accelerate imported before torch_npu choose the NPU."""
    snippet = """
import transformers, accelerate
import torch, torch_npu
report(transformers=transformers.utils.is_torch_npu_available(), accelerate=str(accelerate.Accelerator().device))
"""
    probed = probe(snippet + COMPUTE, TORCH_DEVICE_BACKEND_AUTOLOAD="0")

    assert probed.returncode == 0, probed.output
    assert probed.facts["transformers"] is True
    assert probed.facts["accelerate"].startswith("npu")
    assert probed.facts["product"] == PRODUCT


@requirement("runtime/no-cuda-impersonation", level="core")
def test_libraries_do_not_bring_transfer_to_npu(npu, probe):
    """Importing the training libraries never activates transfer_to_npu, so torch.cuda stays unavailable."""
    snippet = (
        """
import torch, transformers, accelerate, peft, trl, datasets
from transformers import Trainer
from trl import SFTTrainer
report(cuda=torch.cuda.is_available(), patched="torch_npu.contrib.transfer_to_npu" in sys.modules)
"""
        + COMPUTE
    )
    probed = probe(snippet)

    assert probed.returncode == 0, probed.output
    assert probed.facts["cuda"] is False
    assert probed.facts["patched"] is False
    assert probed.facts["product"] == PRODUCT

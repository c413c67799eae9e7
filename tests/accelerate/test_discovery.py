"""What accelerate finds out about the card, and what it says when it cannot."""

import pytest

from fixtures.requirement import requirement

pytestmark = [pytest.mark.single_npu]

BROKEN = """
import importlib.util
report(installed=importlib.util.find_spec("torch_npu") is not None)
try:
    import torch_npu
except ImportError:
    report(broken=True)
from accelerate import Accelerator
report(device=str(Accelerator().device))
"""


@pytest.mark.bf16
@pytest.mark.host
@requirement("accelerate/bf16-available", level="core")
def test_bfloat16_is_asked_of_torch_npu(npu, monkeypatch, evidence):
    """Whether accelerate finds bfloat16 available follows torch_npu's answer, yes or no."""
    import torch
    from accelerate.utils import is_bf16_available

    answers = {}
    for has in (True, False):
        monkeypatch.setattr(torch.npu, "is_bf16_supported", lambda *_, has=has: has)
        answers[has] = is_bf16_available()

    evidence.check_equal("answers of accelerate by those of torch_npu", answers, {True: True, False: False})


@pytest.mark.host
@requirement("accelerate/broken-npu-is-noticed", level="core")
def test_broken_torch_npu_is_noticed(npu, probe, evidence):
    """Where torch_npu is installed and cannot be imported, accelerate raises or warns instead of taking the CPU."""
    # Without CANN's folders on the loader's path torch_npu does not find its libraries.
    probed = probe(BROKEN, TORCH_DEVICE_BACKEND_AUTOLOAD="0", LD_LIBRARY_PATH=None)

    evidence.add(facts=probed.facts, output=probed.output[-2000:])
    assert probed.facts["installed"] is True
    assert probed.facts.get("broken"), "torch_npu finds its libraries without LD_LIBRARY_PATH; nothing was tested"
    evidence.check_equal("noticed", probed.returncode != 0 or "torch_npu" in probed.output, True)

"""Adapters of peft on a base that FSDP has sharded over two cards."""

import pytest

from fixtures.requirement import requirement
from fixtures.step_checks import check_sharded
from fixtures.workloads.fsdp import Fsdp, one_process

pytestmark = [pytest.mark.peft_adapter, pytest.mark.fsdp, pytest.mark.multi_npu]

# FSDP1 as peft's guide has it: flat parameters, and units that are trained or are not.
BASES = {"fsdp1": Fsdp(version=1, kind="lora", wrap="peft", use_orig_params=False), "fsdp2": Fsdp(kind="lora")}


@requirement("peft/fsdp-lora", level="core")
@pytest.mark.parametrize("version", BASES)
def test_lora_trains_on_a_sharded_base(ranks, evidence, reference, version):
    """LoRA on a base sharded by FSDP trains as in one process, and the base stays bitwise as it was."""
    spec = BASES[version]
    measured = ranks(spec, 2, together=tuple(BASES.values()))[0]

    truth, peer = reference(one_process(spec), "float64"), reference(one_process(spec), "float32")
    evidence.check_equal("adapter", all(".lora_" in name for name in truth.final_weights), True)
    if spec.version == 2:  # flat parameters show no gradients
        evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)
    check_sharded(evidence, measured, truth, peer)

"""Tensor parallelism: from_pretrained(tp_plan="auto") on two ranks."""

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.tensor_parallel import TensorParallel

pytestmark = pytest.mark.multi_npu

FAMILIES = {family: TensorParallel(family) for family in ("llama", "qwen3", "mistral")}


@requirement("transformers/tensor-parallel", level="core")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_divided_model_computes_what_the_cpu_does(ranks, reference, evidence, family):
    """A model divided over two ranks has the logits, the loss, the gradients and the tokens of the undivided one."""
    spec = FAMILIES[family]

    measured = ranks(spec, 2, together=tuple(FAMILIES.values()))

    truth, peer = reference(spec, "float64"), reference(spec, "float32")
    for rank, result in enumerate(measured):
        evidence.check_equal(f"devices of rank {rank}", result.parameter_devices, (f"npu:{rank}",))
        evidence.check_below(f"share of the weights on rank {rank}", result.details["local"], 0.6, "half, and norms")
        evidence.check_curve("loss", result.losses, truth.losses)
        evidence.check_tensors("output", result.details["outputs"], truth.details["outputs"], peer.details["outputs"])
        evidence.check_gradients(result.gradients, truth.gradients, peer.gradients)
        evidence.check_equal("tokens", result.details["tokens"], peer.details["tokens"])
    assert any("Shard" in placements for placements in measured[0].details["placements"].values())


@requirement("transformers/tensor-parallel-starts-itself", level="core")
def test_tensor_parallelism_initialises_its_collectives(ranks, reference, evidence):
    """Under torchrun a model is divided over two ranks without a process group that the script initialised."""
    spec = TensorParallel(start=False)

    measured = ranks(spec, 2)

    truth = reference(spec, "float64")
    for rank, result in enumerate(measured):
        evidence.check_equal(f"devices of rank {rank}", result.parameter_devices, (f"npu:{rank}",))
        evidence.check_curve("loss", result.losses, truth.losses)

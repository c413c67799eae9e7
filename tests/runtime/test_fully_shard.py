"""What FSDP2 needs of torch_npu beneath the libraries: reductions with a factor, and casts of sharded tensors."""

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.fully_shard import SHAPE, Cast, DivideFactor

pytestmark = [pytest.mark.runtime, pytest.mark.fsdp, pytest.mark.multi_npu]

AVERAGES = {
    "fp32": DivideFactor(),
    "bf16": DivideFactor(dtype="bfloat16"),
    "fp16": DivideFactor(dtype="float16"),
    "sum-first": DivideFactor(force_sum=True),
    "own-factor-sum-first": DivideFactor(factor=4.0, force_sum=True),
}
OWN_FACTOR = DivideFactor(factor=4.0)
CASTS = {"bf16-to-fp32": Cast(), "fp32-to-bf16": Cast("float32", "bfloat16"), "fp16-to-fp32": Cast("float16")}
TOGETHER = (*AVERAGES.values(), *CASTS.values(), OWN_FACTOR)


def gradient(spec: DivideFactor, world_size: int):
    """What the reduction must give: 1 + 2 + ... of all ranks, divided."""
    import torch

    total = sum(range(1, world_size + 1))
    return torch.full(SHAPE, total / (spec.factor or world_size), dtype=getattr(torch, spec.dtype))


@requirement("runtime/fsdp2-gradient-average", level="core")
@pytest.mark.parametrize("spec", [pytest.param(spec, id=name) for name, spec in AVERAGES.items()])
def test_gradients_are_averaged(ranks, evidence, spec):
    """The reduce-scatter of fully_shard divides gradients by the number of ranks, or by a factor of the user's."""
    for measured in ranks(spec, 2, together=TOGETHER):
        evidence.check_equal("gradient", measured.details["gradient"], gradient(spec, 2))


@requirement("runtime/fsdp2-own-divide-factor", level="extended")
def test_the_collective_divides_by_a_factor(ranks, evidence):
    """The reduce-scatter of fully_shard multiplies by a factor of the user's within the collective."""
    for measured in ranks(OWN_FACTOR, 2):
        evidence.check_equal("gradient", measured.details["gradient"], gradient(OWN_FACTOR, 2))


@requirement("runtime/fsdp2-cast", level="core")
@pytest.mark.parametrize("spec", [pytest.param(spec, id=name) for name, spec in CASTS.items()])
def test_sharded_tensors_are_cast(ranks, evidence, spec):
    """Shards of fully_shard, and a layer of them, are cast to another dtype exactly as the whole weight is."""
    import torch

    for measured in ranks(spec, 2, together=TOGETHER):
        expected = measured.details["weight"].to(getattr(torch, spec.target))
        evidence.check_equal("shards", measured.details["shards cast"], expected)
        evidence.check_equal("layer", measured.details["layer cast"], expected)

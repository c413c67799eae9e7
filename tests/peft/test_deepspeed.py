"""Adapters of peft on a model that DeepSpeed's ZeRO-3 has partitioned over several cards."""

import pytest

from fixtures.requirement import requirement, unsupported
from fixtures.workloads import zero
from fixtures.workloads.zero import Zero

pytestmark = [pytest.mark.peft_adapter, pytest.mark.deepspeed, pytest.mark.multi_npu]


@requirement("peft/zero3-trainable-tokens", level="extended")
def test_tokens_of_a_partitioned_embedding_train(ranks, evidence, reference):
    """Trainable tokens of an embedding partitioned by ZeRO-3 train as on an embedding in one process."""
    if not zero.installed():
        unsupported("deepspeed is not installed: pip install deepspeed")
    spec = Zero(stage=3, tokens=(7, 8, 9))
    measured, truth = ranks(spec, 2)[0], reference(spec, "float64")

    evidence.check_curve("training loss", measured.losses, truth.losses)
    evidence.check_tensors(
        "weight", measured.final_weights, truth.final_weights, reference(spec, "float32").final_weights
    )

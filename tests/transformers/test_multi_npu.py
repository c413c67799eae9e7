"""The Trainer on several cards of one machine: data parallel under the training guide's launchers."""

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.sequence_classification import SequenceClassification

pytestmark = pytest.mark.multi_npu

# Exact gelu is a subject of its own (known defect GELU).
BERT = SequenceClassification(activation="relu", steps=20, evaluate=False, average_tokens_across_devices=False)


@requirement("transformers/ddp-launchers", level="core")
@pytest.mark.parametrize("launcher", ["torchrun", "torch.distributed.launch", "accelerate"])
def test_every_launcher_trains_data_parallel(ranks, evidence, reference, launcher):
    """Under each launcher two ranks, a card each, end with equal weights and follow the loss curve of one process."""
    measured = ranks(BERT, 2, launcher=launcher)

    evidence.check_curve("training loss", measured[0].losses, reference(BERT, "float64").losses, precision="fp32")
    assert [m.parameter_devices for m in measured] == [("npu:0",), ("npu:1",)]

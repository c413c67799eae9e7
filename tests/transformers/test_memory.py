"""Memory as transformers reports it, and data on its way to the card: loader processes, datasets, pinned memory."""

import pytest

from fixtures import models
from fixtures.requirement import requirement
from fixtures.tokenizers import byte_tokenizer
from fixtures.workloads.sequence_classification import examples

pytestmark = [pytest.mark.single_npu]


@requirement("transformers/memory-metrics", level="extended")
def test_memory_metrics_of_the_trainer(npu, evidence, tmp_path):
    """With skip_memory_metrics=False the Trainer reports how much memory training took on the card."""
    from transformers import Trainer, TrainingArguments

    data = examples(byte_tokenizer(), 16, seed=1)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, skip_memory_metrics=False, report_to=[], disable_tqdm=True
    )
    trainer = Trainer(model=models.bert_classifier(hidden=32, layers=1), args=arguments, train_dataset=data)

    metrics = trainer.train().metrics

    measured = {name: value for name, value in metrics.items() if "_mem_" in name}
    evidence.add(**measured)
    names = [f"{stage}_mem_gpu_{what}_delta" for stage in ("init", "train") for what in ("alloc", "peaked")]
    evidence.check_equal("missing metrics", [name for name in names if name not in measured], [])
    assert measured["init_mem_gpu_alloc_delta"] > 0
    assert measured["train_mem_gpu_alloc_delta"] > 0
    assert measured["train_mem_gpu_peaked_delta"] >= 0


@requirement("transformers/testing-utils-memory", level="extended")
def test_memory_functions_of_testing_utils(npu, evidence):
    """The backend functions of transformers.testing_utils measure the card's memory."""
    import torch
    from transformers import testing_utils

    held = torch.ones(1 << 20, device="npu")

    measured = testing_utils.backend_memory_allocated("npu"), testing_utils.backend_max_memory_allocated("npu")

    expected = torch.npu.memory_allocated(), torch.npu.max_memory_allocated()
    assert held.sum().item() == 1 << 20
    evidence.check_equal("allocated bytes and their peak", measured, expected)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"num_workers": 2, "multiprocessing_context": "fork"}, id="fork"),
        pytest.param({"num_workers": 2, "multiprocessing_context": "fork", "pin_memory": True}, id="fork-pinned"),
        pytest.param({"num_workers": 1, "multiprocessing_context": "spawn", "pin_memory": True}, id="spawn-pinned"),
        pytest.param(
            {"num_workers": 2, "multiprocessing_context": "fork", "persistent_workers": True}, id="persistent"
        ),
    ],
)
@requirement("transformers/dataloader-workers", level="core")
def test_loader_processes_give_the_same_batches(npu, evidence, how):
    """Loader processes, forked after the card is in use or spawned, pinned or not, give the batches of none."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    data = TensorDataset(torch.arange(60, dtype=torch.float32).view(20, 3), torch.arange(20))
    assert torch.ones(1, device="npu").item() == 1.0  # the card is in use before workers are forked

    def sums(epochs: int, **options) -> list:
        loader = DataLoader(data, batch_size=6, **options)
        batches = [batch for _ in range(epochs) for batch in loader]
        return [[tensor.to("npu", non_blocking=True).cpu().tolist() for tensor in batch] for batch in batches]

    epochs = 2 if "persistent_workers" in how else 1
    evidence.check_equal("batches", sums(epochs, **how), sums(epochs))


@requirement("transformers/datasets-map-processes", level="core")
def test_datasets_map_in_processes(npu, evidence):
    """A dataset's map with two processes, after the card is in use, gives what one process gives."""
    import torch
    from datasets import Dataset

    assert torch.ones(1, device="npu").item() == 1.0
    data = Dataset.from_dict({"number": list(range(20))})

    mapped = data.map(_doubled, num_proc=2)

    evidence.check_equal("rows", mapped["doubled"][:], [2 * number for number in range(20)])


@requirement("transformers/datasets-on-the-card", level="core")
def test_datasets_come_on_the_card(npu, evidence):
    """A dataset with the torch format and device="npu:0" gives tensors on the card with the right values."""
    from datasets import Dataset

    rows = {"number": [1, 2, 3], "vector": [[0.5, 1.5], [2.5, 3.5], [4.5, 5.5]]}

    data = Dataset.from_dict(rows).with_format("torch", device="npu:0")

    batch = data[:]
    evidence.check_equal("devices", {str(column.device) for column in batch.values()}, {"npu:0"})
    evidence.check_equal("values", {name: column.tolist() for name, column in batch.items()}, rows)


def _doubled(row: dict) -> dict:
    return {"doubled": 2 * row["number"]}

"""What the Trainer keeps of its checkpoints on the card: their files, the best of them, the newest of them."""

import pytest

from fixtures import models
from fixtures.requirement import requirement
from fixtures.tokenizers import byte_tokenizer
from fixtures.workloads.sequence_classification import accuracy, examples

pytestmark = [pytest.mark.single_npu, pytest.mark.checkpoint]


@pytest.fixture
def trainer(npu, tmp_path):
    """trainer(**arguments) -> a Trainer of a tiny BERT over 32 pairs, 4 steps in an epoch, with its files below it."""
    from transformers import Trainer, TrainingArguments

    def make(**arguments):
        data = examples(byte_tokenizer(), 32, seed=1)
        fixed = {"output_dir": str(tmp_path), "report_to": [], "disable_tqdm": True, "optim": "adamw_torch"}
        fixed |= {"per_device_train_batch_size": 8, "learning_rate": 1e-3, "logging_steps": 1}
        return Trainer(
            model=models.bert_classifier(hidden=32, layers=1, dropout=0.1),
            args=TrainingArguments(**fixed, **arguments),
            train_dataset=data,
            eval_dataset=data[:16],
            compute_metrics=accuracy,
        )

    return make


def losses(trainer) -> list[float]:
    """The loss of each step that the trainer remembers."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def weights(model) -> dict:
    """The model's weights on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


@pytest.mark.fp16
@requirement("transformers/checkpoint-files", level="core")
def test_checkpoint_has_every_part(trainer, evidence, tmp_path):
    """A checkpoint of fp16 training has weights, optimizer, scheduler, scaler and random state, for a CPU to read."""
    import torch

    trainer(max_steps=2, save_steps=2, fp16=True).train()

    folder = tmp_path / "checkpoint-2"
    expected = {"model.safetensors", "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth", "trainer_state.json"}
    names = {file.name for file in folder.iterdir()}
    evidence.check_equal("missing files", sorted(expected - names), [])
    scaler = torch.load(folder / "scaler.pt", map_location="cpu", weights_only=True)
    evidence.check_equal("loss scale", scaler["scale"], 65536.0)
    state = torch.load(folder / "rng_state.pth", map_location="cpu", weights_only=False)
    evidence.check_equal("random numbers of the card", "npu" in state, True)
    optimizer = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
    devices = {str(value.device) for entry in optimizer["state"].values() for value in entry.values()}
    evidence.check_equal("devices of the moments", devices, {"cpu"})


@requirement("transformers/resume-within-an-epoch", level="core")
def test_resume_within_an_epoch(trainer, evidence, tmp_path):
    """A run resumed within an epoch skips the batches it has seen, and ends in the bits of one that never stopped."""
    straight = trainer(num_train_epochs=2, save_steps=3)
    straight.train()

    resumed = trainer(num_train_epochs=2, save_strategy="no")
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))

    evidence.check_equal("losses", losses(resumed)[-5:], losses(straight)[3:])
    evidence.check_equal("weights", weights(resumed.model), weights(straight.model))


@requirement("transformers/save-total-limit", level="extended")
def test_best_and_newest_checkpoints_are_kept(trainer, evidence, tmp_path):
    """With load_best_model_at_end and save_total_limit the best checkpoint is kept, and its weights are loaded."""
    from safetensors.torch import load_file

    chosen = {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "save_total_limit": 2}
    run = trainer(max_steps=5, load_best_model_at_end=True, metric_for_best_model="eval_loss", **chosen)
    run.train()

    measured = [entry["eval_loss"] for entry in run.state.log_history if "eval_loss" in entry]
    best = measured.index(min(measured)) + 1
    kept = sorted(folder.name for folder in tmp_path.glob("checkpoint-*"))
    evidence.add(evaluation_losses=measured, kept=kept)
    evidence.check_equal("number of evaluations", len(measured), 5)
    assert len(kept) <= 2
    evidence.check_equal("best checkpoint", run.state.best_model_checkpoint, str(tmp_path / f"checkpoint-{best}"))
    saved = load_file(tmp_path / f"checkpoint-{best}" / "model.safetensors")
    evidence.check_equal("weights", {name: weights(run.model)[name] for name in saved}, saved)


@pytest.mark.cli
@pytest.mark.host
@requirement("transformers/env-reports-the-npu", level="core")
def test_env_reports_the_npu(npu, command, evidence):
    """The output of transformers env names the type of the NPU."""
    import sys
    from importlib.metadata import entry_points

    import torch

    [program] = entry_points(group="console_scripts", name="transformers")
    completed = command([sys.executable, "-m", program.module, "env"], deadline=200).check()

    evidence.add(env=completed.stdout[-3000:])
    assert torch.npu.get_device_name(npu) in completed.stdout, completed.stdout

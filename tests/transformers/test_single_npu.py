"""A BERT sequence-pair classifier fine-tuned by the Trainer on one card, in float32."""

import dataclasses

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.sequence_classification import SequenceClassification

pytestmark = [pytest.mark.single_npu]

BERT = SequenceClassification()
# Clipping would hide a loss gradient of the wrong size.
FIRST_STEP = SequenceClassification(steps=1, activation="relu", evaluate=False, max_grad_norm=1e9)


@requirement("transformers/trainer-uses-the-card", level="core")
def test_trainer_uses_the_card(train, evidence):
    """The Trainer puts every parameter on the card and its memory there grows by more than the weights."""
    measured = train(BERT)

    weights = sum(tensor.numel() * tensor.element_size() for tensor in measured.final_weights.values())
    evidence.add(
        peak_memory_bytes=measured.peak_memory_bytes,
        weight_bytes=weights,
        step_seconds=measured.step_seconds,
    )
    evidence.check_equal("devices of the parameters", measured.parameter_devices, ("npu:0",))
    # Weights, gradients and the two moments of AdamW are on the card at once.
    assert measured.peak_memory_bytes > 4 * weights


@requirement("transformers/trainer-learns", level="core")
def test_trainer_learns(train, evidence):
    """Fine-tuning on the card lowers the loss and finds nine labels of ten or more."""
    workload = SequenceClassification(steps=60)

    measured = train(workload)

    evidence.add(losses=measured.losses, metrics=measured.metrics)
    assert len(measured.losses) == workload.steps
    assert sum(measured.losses[-5:]) < 0.5 * sum(measured.losses[:5])
    assert measured.metrics["eval_accuracy"] > 0.9


@requirement("transformers/trainer-first-gradients", level="core")
def test_first_gradients_match_the_cpu(train, reference, evidence):
    """Every gradient of the first step is as close to the exact one as the CPU's."""
    measured = train(FIRST_STEP)

    truth, peer = reference(FIRST_STEP, "float64"), reference(FIRST_STEP, "float32")
    evidence.check_equal("initial weights", measured.initial_weights, peer.initial_weights)
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)


@requirement("transformers/bert-gelu-gradients", level="core")
def test_gradients_through_gelu_match_the_cpu(train, reference, evidence):
    """Every gradient of a BERT with its own activation, the exact gelu, is as close to the exact one as the CPU's."""
    workload = SequenceClassification(steps=1, evaluate=False)

    measured = train(workload)

    truth, peer = reference(workload, "float64"), reference(workload, "float32")
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)


@requirement("transformers/trainer-loss-curve", level="core")
def test_loss_curve_matches_the_cpu(train, reference, evidence):
    """First loss, loss after one optimizer step, and the whole loss curve follow the CPU's."""
    measured = train(BERT)

    truth = reference(BERT, "float64")
    evidence.check_curve("training loss", measured.losses, truth.losses)
    evidence.check_curve("gradient norm", measured.gradient_norms[:10], truth.gradient_norms[:10])


@requirement("transformers/trainer-weights", level="core")
def test_weights_match_the_cpu(train, reference, evidence):
    """The weights after several steps of gradient descent are as close to the exact ones as the CPU's."""
    # AdamW turns the rounding noise of a vanishing gradient into a full step; plain descent keeps errors in proportion.
    workload = SequenceClassification(optim="sgd", lr=0.05, steps=8, activation="relu", evaluate=False)

    measured = train(workload)

    truth, peer = reference(workload, "float64"), reference(workload, "float32")
    evidence.check_tensors("weight", measured.final_weights, truth.final_weights, peer.final_weights)


@requirement("transformers/trainer-evaluates", level="core")
def test_evaluation_and_prediction_match_the_cpu(train, reference, evidence):
    """Evaluation and prediction of an untrained model on the card give the CPU's loss, accuracy and logits."""
    workload = SequenceClassification(lr=0.0, steps=1)

    measured = train(workload)

    truth, peer = reference(workload, "float64"), reference(workload, "float32")
    evidence.check_tensor("logits", measured.predictions, truth.predictions, peer.predictions)
    evidence.check_curve("evaluation loss", [measured.metrics["eval_loss"]], [truth.metrics["eval_loss"]])
    evidence.check_equal("accuracy", measured.metrics["eval_accuracy"], peer.metrics["eval_accuracy"])


@requirement("transformers/trainer-gradient-accumulation", level="core")
def test_gradient_accumulation_matches_the_cpu(train, reference, evidence):
    """Gradients and losses of accumulated micro batches match those that the CPU accumulates."""
    workload = SequenceClassification(steps=3, batch=4, gradient_accumulation=4, activation="relu", evaluate=False)

    measured = train(workload)

    truth, peer = reference(workload, "float64"), reference(workload, "float32")
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)
    evidence.check_curve("training loss", measured.losses, truth.losses)


@requirement("transformers/trainer-gradient-checkpointing", level="core")
@pytest.mark.parametrize("dropout", [0.0, 0.1], ids=["plain", "dropout"])
def test_gradient_checkpointing_changes_no_gradient(train, evidence, dropout):
    """Recomputing activations in the backward pass gives the gradients of keeping them, dropout included."""
    kept = SequenceClassification(steps=1, dropout=dropout, evaluate=False)
    recomputed = SequenceClassification(steps=1, dropout=dropout, gradient_checkpointing=True, evaluate=False)

    plain, measured = train(kept), train(recomputed)

    evidence.check_curve("training loss", measured.losses, plain.losses)
    evidence.check_gradients(measured.gradients, plain.gradients, plain.gradients)


@requirement("transformers/trainer-clipping", level="core")
@pytest.mark.parametrize("max_grad_norm", [0.05, 0.0], ids=["clipped", "unclipped"])
def test_clipping_matches_the_cpu(train, reference, evidence, max_grad_norm):
    """Gradients are clipped to the given norm, and left alone for 0, as on the CPU."""
    workload = SequenceClassification(
        optim="sgd", lr=0.05, steps=3, max_grad_norm=max_grad_norm, activation="relu", evaluate=False
    )

    measured = train(workload)

    truth, peer = reference(workload, "float64"), reference(workload, "float32")
    norm = sum(gradient.double().square().sum().item() for gradient in measured.gradients.values()) ** 0.5
    evidence.add(norms=measured.gradient_norms, clipped_norm=norm)
    assert (norm <= 0.05 * 1.001) is (max_grad_norm > 0)
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)
    evidence.check_tensors("weight", measured.final_weights, truth.final_weights, peer.final_weights)


@requirement("transformers/eager-attention", level="core")
def test_eager_attention_gives_the_gradients_of_sdpa(train, reference, evidence):
    """The eager attention implementation gives gradients as close to the exact ones as the CPU's."""
    workload = dataclasses.replace(FIRST_STEP, attn="eager")

    measured = train(workload)

    truth, peer = reference(FIRST_STEP, "float64"), reference(workload, "float32")
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)


@requirement("transformers/repeatable", level="core")
def test_same_seed_trains_the_same(train, evidence):
    """Two runs with one seed, dropout included, give the same losses and weights; another seed gives others."""
    workload = SequenceClassification(steps=4, dropout=0.1, evaluate=False)

    first, second = train(workload), train(workload, fresh=True)
    other = train(SequenceClassification(steps=4, dropout=0.1, seed=1, evaluate=False))

    evidence.check_curve("training loss", second.losses, first.losses)
    evidence.check_tensors("weight", second.final_weights, first.final_weights, first.final_weights)
    assert other.losses != first.losses

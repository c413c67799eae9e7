"""Adapters trained on one card: only they learn, by the CPU's gradients, and the base stays as it was."""

import dataclasses

import pytest

from fixtures.requirement import requirement
from fixtures.tolerances import STEP
from fixtures.workloads.adapter_configs import METHODS
from fixtures.workloads.adapters import AdapterTrainer, AdapterTraining

pytestmark = [pytest.mark.single_npu, pytest.mark.peft_adapter]

# LoRA-FA's own optimizer normalises what it adds, as Adam does.
RATE = {"lora_fa": 1e-3}
TRAININGS = [
    AdapterTraining(name, base, lr=RATE.get(name, 0.5)) for name, method in METHODS.items() for base in method.bases
]
EVERY_METHOD = pytest.mark.parametrize("training", TRAININGS, ids=lambda spec: f"{spec.method}-{spec.base}")
FIRST_STEP = AdapterTrainer(steps=1, max_grad_norm=1e9)
PEER = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
HALVES = [pytest.param("fp16", marks=pytest.mark.fp16), pytest.param("bf16", marks=pytest.mark.bf16)]


@requirement("peft/adapter-gradients", level="core")
@EVERY_METHOD
def test_first_gradients_match_the_cpu(train, reference, evidence, training):
    """Every gradient of an adapter's first step, and of nothing else, is as close to the exact one as the CPU's."""
    measured = train(training)

    truth, peer = reference(training, "float64"), reference(training, "float32")
    evidence.check_equal("devices of the parameters", measured.parameter_devices, ("npu:0",))
    evidence.check_equal("frozen parameters with a gradient", measured.details["frozen with gradient"], ())
    evidence.check_tensors("initial weight", measured.initial_weights, truth.initial_weights, peer.initial_weights)
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)


@requirement("peft/adapter-training", level="core")
@EVERY_METHOD
def test_training_follows_the_cpu(train, reference, evidence, training):
    """After several steps an adapter's losses, weights and logits are as close to the exact ones as the CPU's."""
    measured = train(training)

    truth, peer = reference(training, "float64"), reference(training, "float32")
    # LoRA-FA projects its gradients in bfloat16 wherever that exists.
    precision = "bf16" if training.method == "lora_fa" else "fp32"
    evidence.check_curve("training loss", measured.losses, truth.losses, precision)
    evidence.check_tensors("weight", measured.final_weights, truth.final_weights, peer.final_weights, precision)
    logits = (found.details["logits"] for found in (measured, truth, peer))
    evidence.check_tensor("logits", *logits, precision, limits=STEP)
    before, after = measured.initial_weights, measured.final_weights
    changed = [name for name in before if (after[name] != before[name]).any()]
    evidence.check_equal("weights that training changed", changed, list(before))


@requirement("peft/adapter-leaves-the-base", level="core")
@EVERY_METHOD
def test_training_leaves_the_base_as_it_was(train, evidence, training):
    """Training an adapter leaves every other parameter and buffer bitwise as it was."""
    measured = train(training)

    assert len(measured.details["frozen"]) > 10
    evidence.check_equal("frozen tensors", measured.details["frozen after"], measured.details["frozen"])


@requirement("peft/adapter-gradient-checkpointing", level="core")
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_gradient_checkpointing_changes_no_gradient(train, reference, evidence, method):
    """Recomputing the base's activations in the backward pass gives an adapter gradients as close to the exact ones."""
    training = AdapterTraining(method)

    measured = train(dataclasses.replace(training, gradient_checkpointing=True))

    truth, peer = reference(training, "float64"), reference(training, "float32")
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)
    evidence.check_curve("training loss", measured.losses, truth.losses)


@requirement("peft/adapter-of-a-half-precision-base", level="core")
@pytest.mark.parametrize("autocast_adapter_dtype", [True, False], ids=["float32-adapter", "half-adapter"])
@pytest.mark.parametrize("precision", HALVES)
def test_half_precision_base(train, reference, evidence, precision, autocast_adapter_dtype):
    """LoRA on a half precision base has the dtype asked for, and gradients as close to the exact ones as the CPU's."""
    training = AdapterTraining(base_dtype=PEER[precision], autocast_adapter_dtype=autocast_adapter_dtype, lr=0.1)

    measured = train(training)

    truth, peer = reference(training, "float64"), reference(training, PEER[precision])
    dtype = "torch.float32" if autocast_adapter_dtype else f"torch.{PEER[precision]}"
    evidence.check_equal("dtypes of the adapter", measured.details["dtypes"], (dtype,))
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients, precision)
    evidence.check_curve("training loss", measured.losses, truth.losses, precision)
    evidence.check_equal("frozen tensors", measured.details["frozen after"], measured.details["frozen"])


@requirement("peft/trainer-gradients", level="core")
@pytest.mark.parametrize("base", ["llama", "bert"])
@pytest.mark.parametrize("precision", ["fp32", *HALVES])
def test_gradients_under_the_trainer_match_the_cpu(train, reference, evidence, precision, base):
    """Under the Trainer, every gradient of LoRA's first step is as close to the exact one as the CPU's."""
    training = dataclasses.replace(FIRST_STEP, base=base)

    measured = train(dataclasses.replace(training, precision=precision))

    truth, peer = reference(training, "float64"), reference(training, PEER[precision])
    evidence.check_equal("devices of the parameters", measured.parameter_devices, ("npu:0",))
    assert all("lora" in name or "classifier" in name for name in measured.gradients)
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients, precision)


@requirement("peft/trainer-loss-curve", level="core")
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "gradient-checkpointing"])
@pytest.mark.parametrize("precision", ["fp32", *HALVES])
def test_training_by_the_trainer_follows_the_cpu(train, reference, evidence, precision, checkpointing):
    """The Trainer trains LoRA along the exact loss curve and leaves the base bitwise as it was."""
    training = AdapterTrainer()

    measured = train(dataclasses.replace(training, precision=precision, gradient_checkpointing=checkpointing))

    evidence.check_curve("training loss", measured.losses, reference(training, "float64").losses, precision)
    base = {name: tensor for name, tensor in measured.initial_weights.items() if "lora" not in name}
    after = {name: measured.final_weights[name] for name in base}
    evidence.check_equal("weights of the base", after, base)

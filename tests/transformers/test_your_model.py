"""The user's own model (--model): its architecture, in a few small layers, loads, computes, trains and generates."""

import pytest

from fixtures.requirement import requirement
from fixtures.step_checks import check_step

pytestmark = [pytest.mark.single_npu]


@pytest.mark.user_model("load")
@requirement("transformers/your-model-load", level="core")
def test_model_is_saved_and_loaded(train, user_model, evidence):
    """The model is saved, and loaded onto the card bit for bit, with nothing missing and nothing left over."""
    measured = train(user_model)

    evidence.check_equal("devices of the loaded model", measured.parameter_devices, ("npu:0",))
    evidence.check_equal("what from_pretrained found wrong", measured.details["loading"], {})
    evidence.check_equal("weights", measured.details["loaded"], measured.details["saved"])


@pytest.mark.user_model("forward")
@requirement("transformers/your-model-forward", level="core")
def test_forward_pass_matches_the_cpu(train, user_model, truth_of, reference, evidence):
    """Everything that the model gives in evaluation is as close to the exact values as the CPU's."""
    measured = train(user_model)

    truth, peer = truth_of(user_model).details["outputs"], reference(user_model, "float32").details["outputs"]
    evidence.check_equal("devices of the parameters", measured.parameter_devices, ("npu:0",))
    assert truth
    evidence.check_tensors("output", measured.details["outputs"], truth, peer)


@pytest.mark.user_model("step")
@requirement("transformers/your-model-step", level="core")
def test_step_matches_the_cpu(train, user_model, truth_of, reference, evidence):
    """Loss, outputs and every gradient of the model's first step are as close to the exact ones as the CPU's."""
    measured = train(user_model)

    check_step(evidence, measured, truth_of(user_model), reference(user_model, "float32"))


@pytest.mark.user_model("train")
@requirement("transformers/your-model-training", level="core")
def test_training_follows_the_cpu(train, user_model, truth_of, evidence):
    """A few steps of AdamW follow the CPU's loss curve, and the loss falls."""
    measured = train(user_model)

    evidence.check_equal("devices of the parameters", measured.parameter_devices, ("npu:0",))
    evidence.check_curve("training loss", measured.losses, truth_of(user_model).losses)
    assert measured.losses[-1] < measured.losses[0]


@pytest.mark.user_model("generate")
@requirement("transformers/your-model-generation", level="core")
def test_generated_tokens_are_those_of_the_cpu(train, user_model, reference, evidence):
    """The model generates the tokens that the CPU generates."""
    measured = train(user_model)

    evidence.check_equal("devices of the parameters", measured.parameter_devices, ("npu:0",))
    evidence.check_equal("tokens", measured.details["tokens"], reference(user_model, "float32").details["tokens"])

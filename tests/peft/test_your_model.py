"""The user's own model (--model) with an adapter of peft."""

import pytest

from fixtures.requirement import requirement
from fixtures.step_checks import check_step

pytestmark = [pytest.mark.single_npu, pytest.mark.peft_adapter]


@pytest.mark.user_model("lora")
@requirement("peft/your-model-lora", level="core")
def test_step_with_lora_matches_the_cpu(train, user_model, truth_of, reference, evidence):
    """With LoRA on all linear layers only the adapter has gradients, as exact as the CPU's, and the base stays."""
    measured = train(user_model)

    check_step(evidence, measured, truth_of(user_model), reference(user_model, "float32"))
    evidence.check_equal("parameters with a gradient", tuple(sorted(measured.gradients)), measured.details["trained"])
    evidence.check_equal("base", measured.details["base afterwards"], measured.details["base"])

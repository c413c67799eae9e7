"""Supervised fine-tuning by trl's SFTTrainer on one card."""

import dataclasses

import pytest

from fixtures.chips import chip
from fixtures.requirement import requirement, unsupported
from fixtures.trl_checks import both, check_first_step, check_trained
from fixtures.workloads.trl_sft import SFT

pytestmark = [pytest.mark.single_npu, pytest.mark.trl]

TEXT = SFT()
METRICS = ("entropy", "mean_token_accuracy", "num_tokens")
KINDS = {
    "text": TEXT,
    "chat with assistant-only loss": SFT(rows="chat", options=(("assistant_only_loss", True),)),
    "completions": SFT(rows="completion"),
    "wrapped packing": SFT(options=(("packing", True), ("packing_strategy", "wrapped"))),
    "dft loss": SFT(options=(("loss_type", "dft"),)),
}


@pytest.fixture
def bf16_card(npu):
    """Ends the test on a chip without bfloat16."""
    import torch

    name = torch.npu.get_device_name(npu)
    if not chip(name).bf16:
        unsupported(f"{name} has no bfloat16")


@requirement("trl/sft", level="core")
@pytest.mark.parametrize("kind", KINDS)
def test_sft_trains_as_the_cpu(train, reference, evidence, kind):
    """SFTTrainer's losses, metrics and first gradients on each kind of data are as exact as the CPU's."""
    workload = KINDS[kind]

    measured = train(workload)

    truth, peer = both(reference, workload)
    check_first_step(evidence, measured, truth, peer, metrics=METRICS)
    evidence.check_curve("training loss", measured.losses, truth.losses)


@pytest.mark.peft_adapter
@requirement("trl/sft-lora", level="core")
def test_sft_trains_an_adapter(train, reference, evidence):
    """SFTTrainer with a LoRA configuration trains the adapter alone, with gradients as exact as the CPU's."""
    workload = SFT(lora=True, gradient_checkpointing=True)

    measured = train(workload)

    truth, peer = both(reference, workload)
    assert measured.gradients
    assert all("lora" in name for name in measured.gradients)
    check_first_step(evidence, measured, truth, peer, metrics=METRICS)
    evidence.check_curve("training loss", measured.losses, truth.losses)


@pytest.mark.attention
@requirement("trl/sft-padding-free", level="core")
def test_padding_free_equals_padding(train, reference, evidence):
    """SFTTrainer without padding, with flash_attention_2, computes what it computes with padding on the CPU."""
    measured = train(SFT(attn="flash_attention_2", options=(("padding_free", True), ("max_length", None))))

    truth, peer = both(reference, TEXT)
    check_first_step(evidence, measured, truth, peer, metrics=METRICS)
    evidence.check_curve("training loss", measured.losses, truth.losses)


@pytest.mark.attention
@requirement("trl/sft-packing", level="core")
def test_packed_examples_do_not_see_each_other(train, reference, evidence):
    """Examples packed into one row for flash_attention_2 are trained on as the CPU does, each for itself."""
    packed = SFT(attn="flash_attention_2", options=(("packing", True),))

    measured = train(packed)

    truth, peer = both(reference, dataclasses.replace(packed, attn="sdpa"))
    check_first_step(evidence, measured, truth, peer, metrics=METRICS)
    evidence.check_curve("training loss", measured.losses, truth.losses)


@requirement("trl/sft-accumulation", level="core")
def test_accumulated_micro_batches_equal_one_batch(train, reference, evidence):
    """SFTTrainer with four accumulated micro batches has the gradients and loss of one large batch on the CPU."""
    large = SFT(batch=16, steps=1)

    measured = train(dataclasses.replace(large, batch=4, gradient_accumulation=4))

    truth, peer = both(reference, large)
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)
    evidence.check_curve("training loss", measured.losses, truth.losses)


@pytest.mark.bf16
@requirement("trl/sft-default-precision", level="core")
def test_default_precision_is_bf16(bf16_card, train, reference, evidence):
    """Where nothing is said about the precision, SFTTrainer trains in bfloat16, as exactly as the CPU does."""
    measured = train(SFT(precision="default", gradient_checkpointing=True))

    truth, peer = both(reference, TEXT, precision="bf16")
    evidence.check_equal("precision", measured.details["precision"], "bf16")
    check_first_step(evidence, measured, truth, peer, "bf16", metrics=METRICS)
    evidence.check_curve("training loss", measured.losses, truth.losses, "bf16")


@pytest.mark.bf16
@pytest.mark.host
@requirement("trl/default-precision-refused", level="core")
def test_default_configuration_is_refused_exactly_without_bf16(npu, evidence, tmp_path):
    """A default configuration of trl is accepted on a chip with bf16, and refused for bf16 on one that lacks it."""
    import torch
    from trl import SFTConfig

    try:
        SFTConfig(output_dir=str(tmp_path), report_to=[])
        answer = "accepted"
    except ValueError as error:
        answer = "refused for bf16" if "bf16" in str(error) else str(error)

    has_bf16 = chip(torch.npu.get_device_name(npu)).bf16
    evidence.check_equal("answer to the default", answer, "accepted" if has_bf16 else "refused for bf16")


@pytest.mark.fp16
@requirement("trl/sft-fp16", level="core")
def test_sft_trains_in_float16(train, reference, evidence):
    """SFTTrainer in float16 has first gradients as exact as float16 on the CPU, and follows the exact loss curve."""
    measured = train(SFT(precision="fp16", optim="adamw_torch"))

    truth, peer = both(reference, SFT(optim="adamw_torch"), precision="fp16")
    evidence.check_equal("skipped steps", measured.skipped_steps, ())
    check_first_step(evidence, measured, truth, peer, "fp16", metrics=METRICS)
    evidence.check_curve("training loss", measured.losses, truth.losses, "fp16")


@pytest.mark.fp16
@requirement("trl/sft-fp16-default-optimizer", level="core")
def test_default_optimizer_trains_in_float16(train, reference, evidence):
    """SFTTrainer with fp16 and its default optimizer follows the exact loss curve."""
    measured = train(SFT(precision="fp16"))

    truth, _ = both(reference, TEXT)
    evidence.check_curve("training loss", measured.losses, truth.losses, "fp16")


@requirement("trl/activation-offloading", level="core")
def test_offloaded_activations_change_nothing(train, evidence):
    """Activations kept in host memory come back unchanged: gradients and losses equal those without offloading."""
    plain = SFT(steps=12, batch=8)

    measured = train(dataclasses.replace(plain, options=(("activation_offloading", True),)))
    expected = train(plain)

    evidence.check_equal("gradients", measured.gradients, expected.gradients)
    evidence.check_equal("losses", measured.losses, expected.losses)
    check_trained(evidence, measured, expected)


@requirement("trl/activation-offloading-without-streams", level="extended")
def test_offloaded_activations_change_nothing_without_streams(train, reference, evidence):
    """Activations kept in host memory without a stream of their own give gradients and losses as exact as the CPU's."""
    plain = SFT(steps=12, batch=8)

    measured = train(dataclasses.replace(plain, offload_without_streams=True))

    truth, peer = both(reference, plain)
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)
    evidence.check_curve("training loss", measured.losses, truth.losses)
    assert measured.details["offloaded"] > 0

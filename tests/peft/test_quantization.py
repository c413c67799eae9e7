"""LoRA on a base with quantised weights (QLoRA): the adapter learns, by the gradients of what the base stands for."""

import dataclasses

import pytest

from fixtures.quantised_checks import check_model, demand, precision_of
from fixtures.requirement import requirement
from fixtures.workloads.quantised_model import QuantisedModel

pytestmark = [pytest.mark.single_npu, pytest.mark.peft_adapter, pytest.mark.quantization]

BASES = {
    "nf4": QuantisedModel("nf4", lora=3),
    "nf4-nested": QuantisedModel("nf4", nested=True, lora=3),
    "fp4": QuantisedModel("fp4", lora=3),
    "int8": QuantisedModel("int8", lora=3),
    "torchao-int8": QuantisedModel("torchao-int8", lora=3),
}
HALVES = [pytest.param("float16", marks=pytest.mark.fp16), pytest.param("bfloat16", marks=pytest.mark.bf16)]


def check_training(evidence, reference, spec, measured, directory) -> None:
    """Gradients, losses and weights of the adapter are as exact as on a plain base with the stored weights."""
    __tracebackhide__ = True
    truth, peer = check_model(evidence, reference, spec, measured, directory)
    precision = precision_of(spec)
    evidence.check_equal("devices of the parameters", measured.parameter_devices, ("npu:0",))
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients, precision)
    evidence.check_curve("training loss", measured.losses, truth.losses, precision)
    evidence.check_tensors("weight", measured.final_weights, truth.final_weights, peer.final_weights, precision)
    evidence.check_equal("stored numbers of the base", measured.details["after"], measured.details["numbers"])


@requirement("peft/qlora-training", level="core")
@pytest.mark.parametrize("kind", BASES)
def test_adapter_of_a_quantised_base_trains(train, reference, evidence, tmp_path, kind):
    """LoRA on a quantised base trains as exactly as on a plain base with the weights that are stored."""
    demand(BASES[kind].scheme)
    check_training(evidence, reference, BASES[kind], train(BASES[kind]), tmp_path)


@requirement("peft/qlora-half", level="core")
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_adapter_of_a_quantised_base_in_half_precision(train, reference, evidence, tmp_path, kind, dtype):
    """LoRA on a quantised base that computes in half precision trains as exactly there as on a plain one."""
    demand(BASES[kind].scheme)
    spec = dataclasses.replace(BASES[kind], dtype=dtype)
    check_training(evidence, reference, spec, train(spec), tmp_path)

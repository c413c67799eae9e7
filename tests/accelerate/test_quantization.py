"""Models that accelerate quantises by bitsandbytes while it loads them (load_and_quantize_model), on one card."""

import dataclasses

import pytest

from fixtures.quantised_checks import check_model, demand
from fixtures.requirement import requirement
from fixtures.workloads.quantised_model import QuantisedModel

pytestmark = [pytest.mark.single_npu, pytest.mark.quantization]

MODELS = {
    "nf4": QuantisedModel("nf4", by="accelerate", device_map="npu:0"),
    "nf4-nested": QuantisedModel("nf4", by="accelerate", device_map="npu:0", nested=True),
    "fp4": QuantisedModel("fp4", by="accelerate", device_map="npu:0"),
    "int8": QuantisedModel("int8", by="accelerate", device_map="npu:0"),
}


@requirement("accelerate/quantised-model", level="core")
@pytest.mark.parametrize("kind", MODELS)
def test_quantised_model_loads_on_the_card(train, reference, evidence, tmp_path, kind):
    """Sent to a card by a device map, a model is quantised there, and its logits are those of what is stored."""
    demand(MODELS[kind].scheme)
    measured = train(MODELS[kind])

    evidence.check_equal("devices", measured.details["devices"], ("npu:0",))
    check_model(evidence, reference, MODELS[kind], measured, tmp_path)


@pytest.mark.fp16
@requirement("accelerate/quantised-model-fp16", level="core")
@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_quantised_model_in_float16(train, reference, evidence, tmp_path, kind):
    """A model quantised for float16 has logits as exact there as a plain one with the stored weights."""
    demand(MODELS[kind].scheme)
    spec = dataclasses.replace(MODELS[kind], dtype="float16")
    check_model(evidence, reference, spec, train(spec), tmp_path)


@requirement("accelerate/quantised-like-transformers", level="core")
@pytest.mark.parametrize("kind", MODELS)
def test_both_libraries_store_the_same(train, evidence, kind):
    """The weights that accelerate and transformers store for the same model are the same numbers."""
    demand(MODELS[kind].scheme)
    measured = train(MODELS[kind])
    other = train(dataclasses.replace(MODELS[kind], by="transformers", device_map=None))

    evidence.check_equal("weights", measured.details["weights"], other.details["weights"])


@pytest.mark.host
@requirement("accelerate/quantised-without-device-map", level="extended")
@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_without_a_device_map(train, evidence, kind):
    """Without a device map a model is quantised on the card, or refused with an error that says what it wants."""
    demand(MODELS[kind].scheme)
    try:
        found = train(dataclasses.replace(MODELS[kind], device_map=None)).details["devices"]
    except RuntimeError as error:
        found = str(error)

    evidence.add(answer=found)
    assert found == ("npu:0",) or "needed for quantization" in found

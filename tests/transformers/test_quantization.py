"""Quantised weights on one card: layers of bitsandbytes and torchao, and models that transformers quantises.

The rule: right numbers, or an error that says what is not supported; never wrong numbers. What the stored numbers stand
for is computed by formulas of this suite (fixtures/quantisation.py).
"""

import dataclasses

import pytest

from fixtures import quantisation
from fixtures.quantised_checks import SLACK, SOURCE, check_layer, check_model, demand
from fixtures.requirement import requirement, unsupported
from fixtures.step_checks import PRECISION
from fixtures.tolerances import EPSILON
from fixtures.workloads.quantised_linear import QuantisedLinear, computed, numbers
from fixtures.workloads.quantised_model import QuantisedModel

pytestmark = [pytest.mark.single_npu, pytest.mark.quantization]

HALVES = [pytest.param("float16", marks=pytest.mark.fp16), pytest.param("bfloat16", marks=pytest.mark.bf16)]
# Whole blocks of 64, rows that are none, an odd number of elements, less than one block.
SHAPES = [(64, 64), (80, 96), (33, 47), (1, 7)]
FOUR_BITS = [
    QuantisedLinear(scheme, *shape, nested=nested)
    for scheme in ("nf4", "fp4")
    for shape in SHAPES
    for nested in (False, True)
]


def name_of(spec: QuantisedLinear) -> str:
    """The id of a layer's test."""
    return f"{spec.scheme}{'-nested' if spec.nested else ''}-{spec.rows}x{spec.columns}"


EVERY_FOUR_BITS = pytest.mark.parametrize("spec", FOUR_BITS, ids=name_of)


@requirement("transformers/bnb-4bit-rounding", level="core")
@EVERY_FOUR_BITS
def test_four_bits_are_the_nearest(train, evidence, spec):
    """Every weight is stored as the nearest of the sixteen values times the largest magnitude of its block."""
    import torch

    demand(spec.scheme)
    measured = train(spec)

    parts, given = measured.details["parts"], numbers(spec)["weight"].reshape(-1).double()
    magnitudes = torch.stack([part.abs().max() for part in given.split(64)])
    scaled, values = given / magnitudes[parts["blocks"]], parts["values"]
    excess = quantisation.nearest_excess(scaled, values, quantisation.TABLES[spec.scheme])
    evidence.check_below("distance beyond the nearest value", excess, SLACK, SOURCE)
    if not spec.nested:
        evidence.check_equal("magnitudes of the blocks", parts["magnitudes"], magnitudes)


@requirement("transformers/bnb-4bit-nested-magnitudes", level="core")
@pytest.mark.parametrize("spec", [spec for spec in FOUR_BITS if spec.nested], ids=name_of)
def test_nested_magnitudes_are_the_nearest(train, evidence, spec):
    """With nested quantisation the magnitudes less their mean are stored as the nearest of the 256 dynamic values."""
    import torch

    demand(spec.scheme)
    import bitsandbytes

    nested = train(spec).details["parts"]["nested"]

    given = numbers(spec)["weight"].reshape(-1).double()
    magnitudes = torch.stack([part.abs().max() for part in given.split(64)])
    evidence.check_below("mean", abs(nested["offset"] - magnitudes.mean().item()), SLACK * magnitudes.mean(), SOURCE)
    left = magnitudes - nested["offset"]
    largest = torch.stack([part.abs().max() for part in left.split(256)])
    # A single magnitude is its own mean, and what is left of it rounding.
    scaled = left / largest.clamp(min=1e-30)[nested["blocks"]] if magnitudes.numel() > 1 else torch.zeros_like(left)
    values = bitsandbytes.functional.create_dynamic_map()
    excess = quantisation.nearest_excess(scaled, nested["values"] * (magnitudes.numel() > 1), values)
    # The differences to the mean are small, so that what float32 loses in them is larger.
    slack = SLACK * float(magnitudes.max() / largest.max().clamp(min=1e-6))
    evidence.check_below("distance beyond the nearest value", excess, slack, SOURCE)


@requirement("transformers/bnb-4bit-dequantised", level="core")
@EVERY_FOUR_BITS
def test_four_bits_are_restored(train, evidence, spec):
    """A weight is restored from its four bits, whatever its shape, to what they stand for."""
    demand(spec.scheme)
    measured = train(spec)

    exact = measured.details["weight"]
    evidence.check_tensor("restored weight", measured.details["restored"], exact, exact.float())


@requirement("transformers/bnb-4bit-linear", level="core")
@EVERY_FOUR_BITS
def test_four_bit_layer_computes_with_what_is_stored(train, evidence, spec):
    """A four bit layer's output and input gradient are as exact as those of a plain layer with the restored weight."""
    demand(spec.scheme)
    check_layer(evidence, spec, train(spec))


@requirement("transformers/bnb-4bit-linear-half", level="core")
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("scheme", ["nf4", "fp4"])
def test_four_bit_layer_in_half_precision(train, evidence, scheme, dtype):
    """A four bit layer that computes in half precision is as exact there as a plain layer with the restored weight."""
    demand(scheme)
    spec = QuantisedLinear(scheme, dtype=dtype)
    check_layer(evidence, spec, train(spec))


@requirement("transformers/bnb-4bit-single-row", level="core")
@pytest.mark.parametrize("nested", [False, True], ids=["plain", "nested"])
@pytest.mark.parametrize("scheme", ["nf4", "fp4"])
def test_single_row_as_in_decoding(train, evidence, scheme, nested):
    """One row without gradient, for which bitsandbytes takes a road of its own, gives what a plain layer gives."""
    demand(scheme)
    spec = QuantisedLinear(scheme, inputs=1, nested=nested)
    check_layer(evidence, spec, train(spec))


@requirement("transformers/bnb-4bit-compiled", level="core")
def test_layer_computes_the_same_as_users_run_it(train, evidence):
    """A four bit layer whose dequantisation may be compiled for the card gives what a plain layer gives."""
    demand("nf4")
    spec = QuantisedLinear("nf4", eager=False)
    check_layer(evidence, spec, train(spec))


@requirement("transformers/bnb-4bit-compiles-once", level="extended")
def test_failed_compilation_is_not_tried_again(train, evidence):
    """The second call of a four bit layer with the same shapes compiles nothing."""
    demand("nf4")
    measured = train(QuantisedLinear("nf4", eager=False))

    evidence.check_equal("compilations of a second call", measured.details["compilations"], 0)


ON_GRID = QuantisedLinear("int8", on_grid=True, dtype="float16")


@requirement("transformers/bnb-8bit-rounding", level="core")
@pytest.mark.fp16
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_eight_bits_are_the_nearest(train, evidence, shape):
    """Every weight is stored as the nearest whole number of 127ths of the largest magnitude of its row."""
    demand("int8")
    spec = QuantisedLinear("int8", *shape, dtype="float16")
    measured = train(spec)

    given = numbers(spec)["weight"].half().double()
    largest = given.abs().amax(1, keepdim=True)
    evidence.check_equal("magnitudes of the rows", measured.details["magnitudes"].double(), largest.squeeze(1))
    off = (given - measured.details["weight"]) / largest * 127
    evidence.check_below("distance in 127ths", off.abs().max(), 0.5 + 127 * SLACK, f"half, and {SOURCE}")


@requirement("transformers/bnb-8bit-linear", level="core")
@pytest.mark.fp16
@pytest.mark.parametrize("outliers", [False, True], ids=["plain", "outliers"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_eight_bit_layer_multiplies_exactly(train, evidence, shape, outliers):
    """Weights and inputs that eight bits represent exactly are multiplied as exactly as by a plain float16 layer."""
    demand("int8")
    if outliers and shape[1] < 8:
        shape = (3, 8)
    spec = dataclasses.replace(ON_GRID, rows=shape[0], columns=shape[1], outliers=outliers)
    measured = train(spec)

    evidence.check_equal("weight", measured.details["weight"], numbers(spec)["weight"].double())
    check_layer(evidence, spec, measured)


@requirement("transformers/bnb-8bit-linear-float32", level="extended")
def test_eight_bit_layer_scales_exactly(train, evidence):
    """In float32, too, what eight bits represent exactly is multiplied as exactly as by a plain layer."""
    demand("int8")
    spec = dataclasses.replace(ON_GRID, dtype="float32")
    check_layer(evidence, spec, train(spec))


@requirement("transformers/torchao-int8-linear", level="core")
@pytest.mark.parametrize("dtype", ["float32", *HALVES])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_torchao_int8_layer(train, evidence, shape, dtype):
    """The int8 weight of torchao is the nearest, is restored, and is multiplied as exactly as by a plain layer."""
    demand("torchao-int8")
    spec = QuantisedLinear("torchao-int8", *shape, dtype=dtype)
    measured = train(spec)

    import torch

    given = numbers(spec)["weight"].to(getattr(torch, dtype)).double()
    largest = given.abs().amax(1, keepdim=True)
    off = (given - measured.details["weight"]) / largest * 127.5
    # The number is found in the weight's own dtype, whose rounding is a part of a step.
    limit = 0.5 + 127.5 * max(SLACK, EPSILON[PRECISION[dtype]])
    evidence.check_below("distance in 127.5ths", off.abs().max(), limit, "half, and one rounding of the dtype")
    exact = measured.details["weight"]
    evidence.check_tensor("restored weight", measured.details["restored"], exact, exact.to(getattr(torch, dtype)))
    check_layer(evidence, spec, measured)


INT4 = QuantisedLinear("torchao-int4", inputs=1, dtype="float16")


@requirement("transformers/torchao-int4-rounding", level="core")
@pytest.mark.parametrize("dtype", HALVES)
def test_torchao_int4_is_near(train, evidence, dtype):
    """Each int4 number of torchao, less its zero point, stands for a weight within one step of the given one."""
    demand("torchao-int4")
    spec = dataclasses.replace(INT4, dtype=dtype)
    measured = train(spec)

    import torch

    given = numbers(spec)["weight"].to(getattr(torch, dtype)).double().reshape(spec.rows, -1, 32)
    steps = (given.amax(2, keepdim=True) - given.amin(2, keepdim=True)) / 15
    off = (given - measured.details["weight"].reshape(given.shape)) / steps
    limit = 1 + 16 * EPSILON[PRECISION[dtype]]
    evidence.check_below("distance in steps", off.abs().max(), limit, "half a step, the zero point's and the scale's")


@requirement("transformers/torchao-int4-linear", level="core")
@pytest.mark.parametrize("dtype", HALVES)
def test_torchao_int4_layer(train, evidence, dtype):
    """The int4 layer of torchao multiplies by the weights that its numbers and zero points stand for."""
    demand("torchao-int4")
    spec = dataclasses.replace(INT4, dtype=dtype)
    check_layer(evidence, spec, train(spec))


@requirement("transformers/torchao-int4-gradient", level="extended")
@pytest.mark.fp16
def test_torchao_int4_layer_passes_gradients(train, evidence):
    """The input of torchao's int4 layer has the gradient of a plain layer, or the layer refuses to be trained."""
    demand("torchao-int4")
    spec = dataclasses.replace(INT4, inputs=10)
    try:
        measured = train(spec)
    except NotImplementedError as refusal:
        unsupported(f"torchao does not train through int4: {refusal}")

    truth, peer = (computed(spec, measured.details["weight"], dtype) for dtype in ("float64", "float16"))
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients)


MODELS = {
    "nf4": QuantisedModel("nf4"),
    "nf4-nested": QuantisedModel("nf4", nested=True),
    "fp4": QuantisedModel("fp4"),
    "int8": QuantisedModel("int8"),
    "torchao-int8": QuantisedModel("torchao-int8"),
}


@requirement("transformers/quantised-model", level="core")
@pytest.mark.parametrize("kind", MODELS)
def test_quantised_model_loads_on_the_card(train, reference, evidence, tmp_path, kind):
    """Loading quantises every linear layer but the head on the card; the logits are those of what is stored."""
    demand(MODELS[kind].scheme)
    measured = train(MODELS[kind])

    evidence.check_equal("devices", measured.details["devices"], ("npu:0",))
    check_model(evidence, reference, MODELS[kind], measured, tmp_path)


@requirement("transformers/quantised-model-half", level="core")
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", ["nf4", "int8", "torchao-int8"])
def test_quantised_model_in_half_precision(train, reference, evidence, tmp_path, kind, dtype):
    """A quantised model that computes in half precision has logits as exact there as a plain one with those weights."""
    demand(MODELS[kind].scheme)
    spec = dataclasses.replace(MODELS[kind], dtype=dtype)
    check_model(evidence, reference, spec, train(spec), tmp_path)


@pytest.mark.checkpoint
@requirement("transformers/quantised-model-saved", level="core")
@pytest.mark.parametrize("kind", MODELS)
def test_saved_quantised_model_loads(train, evidence, kind):
    """A quantised model that was saved from the card is loaded there with the same numbers and gives equal logits."""
    demand(MODELS[kind].scheme)
    expected = train(MODELS[kind])
    measured = train(dataclasses.replace(MODELS[kind], reload=True))

    evidence.check_equal("devices", measured.details["devices"], ("npu:0",))
    evidence.check_equal("quantised layers", measured.details["classes"], expected.details["classes"])
    evidence.check_equal("weights", measured.details["weights"], expected.details["weights"])
    evidence.check_equal("logits", measured.details["logits"], expected.details["logits"])


UNUSABLE = {"plain": "ImportError", "tile_packed_to_4d": "AssertionError", "preshuffled": "ImportError"}


@requirement("transformers/torchao-int4-formats", level="extended")
@pytest.mark.parametrize("packing", UNUSABLE)
def test_unusable_packing_is_refused_in_words(npu, evidence, packing):
    """A packing format of int4 that the card cannot use is refused by an error that names the format or the device."""
    demand("torchao-int4")
    import torch
    from torchao.quantization import Int4WeightOnlyConfig, quantize_

    layer = torch.nn.Linear(128, 64).bfloat16().to(npu)
    with pytest.raises((ImportError, AssertionError, NotImplementedError, RuntimeError, ValueError)) as refusal:
        quantize_(layer, Int4WeightOnlyConfig(32, int4_packing_format=packing, set_inductor_config=False))

    said = str(refusal.value)
    evidence.add(error=f"{refusal.type.__name__}: {said}")
    names = any(word in said.lower() for word in ("npu", "packing", packing))
    evidence.check_equal("errors that say what is not supported", names, True)

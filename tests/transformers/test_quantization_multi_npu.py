"""Models with quantised weights on several cards: on the second one, and spread over two."""

import pytest

from fixtures.quantised_checks import check_model, demand
from fixtures.requirement import requirement
from fixtures.workloads.quantised_model import QuantisedModel

pytestmark = [pytest.mark.multi_npu, pytest.mark.quantization]

PLACES = {"npu:1": ("npu:1",), "auto": ("npu:0", "npu:1")}
SPREAD = [
    QuantisedModel(scheme, device_map=place) for scheme in ("nf4", "fp4", "int8", "torchao-int8") for place in PLACES
]


@requirement("transformers/quantised-model-on-cards", level="core")
@pytest.mark.parametrize("spec", SPREAD, ids=lambda spec: f"{spec.scheme}-{spec.device_map}")
def test_quantised_model_on_other_cards(ranks, reference, evidence, tmp_path, spec):
    """Quantised onto the second card, or spread over two, a model has the logits of what is stored."""
    demand(spec.scheme)
    measured = ranks(spec, 1, cards=2, launcher="python", together=SPREAD)[0]

    evidence.check_equal("devices", measured.details["devices"], PLACES[spec.device_map])
    check_model(evidence, reference, spec, measured, tmp_path)

"""Big models with accelerate on several cards: one process that sees them all, and cards other than the first."""

import pytest

from fixtures.placement_checks import check_computed, check_placed
from fixtures.requirement import requirement
from fixtures.workloads.device_calls import CardMemory, CardNumbers
from fixtures.workloads.model_placement import Placed

pytestmark = [pytest.mark.multi_npu, pytest.mark.big_model_inference]

EMBEDDING, LAYER_0, LAYER_1 = ("model.embed_tokens", "model.rotary_emb"), ("model.layers.0",), ("model.layers.1",)
HEAD = ("model.norm", "lm_head")
GPT2 = ("transformer.wte", "transformer.wpe", "transformer.drop", "transformer.h.0")


def mapped(embedding, first, second, head) -> tuple:
    """A map of the parts of a Llama."""
    parts = ((EMBEDDING, embedding), (LAYER_0, first), (LAYER_1, second), (HEAD, head))
    return tuple((name, where) for names, where in parts for name in names)


SPLIT = mapped(0, 0, 1, 1)
DISPATCHED = {
    "two-cards": Placed("dispatch_model", SPLIT, task="generate"),
    "there-and-back": Placed("dispatch_model", mapped("npu:0", "npu:1", "npu:0", "npu:1"), task="generate"),
    "second-card-first": Placed("dispatch_model", mapped(1, 1, 0, 0), task="generate"),
    "two-cards-and-cpu": Placed("dispatch_model", mapped(0, 1, "cpu", 1), task="generate"),
    "two-cards-and-disk": Placed("dispatch_model", mapped(0, "disk", 1, 0), task="generate"),
    "second-card-by-name": Placed("dispatch_model", (("", "npu:1"),)),
    "second-card-and-cpu": Placed("dispatch_model", mapped(1, 1, "cpu", 1)),
}
SECOND_BY_NUMBER = Placed("dispatch_model", (("", 1),))
LOADED = {
    "two-cards": Placed("load_checkpoint_and_dispatch", SPLIT, task="generate"),
    "auto": Placed("load_checkpoint_and_dispatch", "auto"),
    "limits": Placed("load_checkpoint_and_dispatch", "auto", max_memory=((0, "330KB"), (1, "330KB"), ("cpu", "10MB"))),
    "balanced": Placed("load_checkpoint_and_dispatch", "balanced", family="qwen3"),
    "second-card-by-name": Placed("load_checkpoint_and_dispatch", (("", "npu:1"),)),
}
OFFLOADED = {way: Placed(way, "npu:1", remove=True) for way in ("cpu_offload", "disk_offload")}
TIED = Placed(
    "dispatch_model",
    (*((name, 0) for name in GPT2), ("transformer.h.1", 1), ("transformer.ln_f", 1), ("lm_head", 0)),
    family="gpt2",
    task="generate",
)
REMOVED = Placed("dispatch_model", mapped(0, 1, "cpu", 1), remove=True)
NUMBERS = [CardNumbers(0), CardNumbers(1)]
MEMORY = CardMemory(1)
TOGETHER = (
    *DISPATCHED.values(), *LOADED.values(), *OFFLOADED.values(), SECOND_BY_NUMBER, TIED, REMOVED, *NUMBERS, MEMORY,
)  # fmt: skip


@pytest.fixture
def one_process(ranks):
    """one_process(workload) -> Measured, in one process that sees two cards."""
    return lambda workload: ranks(workload, 1, cards=2, launcher="python", together=TOGETHER, deadline=500)[0]


def require_placed(one_process, reference, evidence, spec: Placed):
    """A model is where its map says and computes what the CPU does. Returns what was measured."""
    measured = one_process(spec)

    check_placed(evidence, spec, measured, reference)
    return measured


@requirement("accelerate/dispatch-over-cards", level="core")
@pytest.mark.parametrize("name", DISPATCHED)
def test_a_model_over_cards_computes_what_the_cpu_does(one_process, reference, evidence, name):
    """A model dispatched over two cards, host memory and disk is where the map says, and gives the CPU's outputs."""
    require_placed(one_process, reference, evidence, DISPATCHED[name])


@requirement("accelerate/dispatch-second-card-number", level="core")
def test_model_dispatched_to_the_number_of_the_second_card(one_process, reference, evidence):
    """A model dispatched to the second card by its number is there with all parameters and buffers."""
    require_placed(one_process, reference, evidence, SECOND_BY_NUMBER)


@requirement("accelerate/load-checkpoint-over-cards", level="core")
@pytest.mark.parametrize("name", LOADED)
def test_a_checkpoint_is_loaded_over_cards(one_process, reference, evidence, name):
    """A sharded checkpoint is loaded over two cards as mapped, or as memory allows, and computes what the CPU does."""
    measured = require_placed(one_process, reference, evidence, LOADED[name])

    if name in ("auto", "limits", "balanced"):
        assert set(measured.details["map"].values()) >= {"0", "1"}
    evidence.check_equal("host memory is used", "cpu" in measured.details["map"].values(), name == "limits")


@requirement("accelerate/offload-second-card", level="core")
@pytest.mark.parametrize("way", OFFLOADED)
def test_offloaded_models_compute_on_the_second_card(one_process, reference, evidence, way):
    """A model offloaded whole computes on the card that it was told, and that card is the second one."""
    spec = OFFLOADED[way]

    measured = one_process(spec)

    details = measured.details
    expected = {n: "npu:1" if n in details["buffers"] else "meta" for n in details["placement"]}
    evidence.check_equal("placement", details["placement"], expected)
    check_computed(evidence, spec, measured, reference(spec, "float64"), reference(spec, "float32"))
    evidence.check_equal("computed on", set(details["executed on"].values()), {("npu:1",)})


@requirement("accelerate/dispatch-tied-over-cards", level="core")
def test_tied_weights_of_a_model_over_cards(one_process, reference, evidence):
    """Tied weights of a model dispatched over two cards stay one parameter."""
    measured = require_placed(one_process, reference, evidence, TIED)

    evidence.check_equal("tied", measured.details["tied"], (("lm_head.weight", "transformer.wte.weight"),))


@requirement("accelerate/hook-removal-over-cards", level="core")
def test_removing_the_hooks_of_a_model_over_cards(one_process, reference, evidence):
    """Without its hooks a model that was on two cards and in host memory has its weights, and moves to one card."""
    restored = one_process(REMOVED).details["restored"]

    evidence.check_equal("weights that differ", restored["weights that differ"], [])
    evidence.check_equal("hooks left", restored["hooks"], [])
    evidence.check_equal("devices when moved", set(restored["placement moved"].values()), {"npu:0"})
    truth, peer = (reference(REMOVED, dtype).details["outputs"] for dtype in ("float64", "float32"))
    evidence.check_tensors("output when moved", restored["outputs"], truth, peer)


@requirement("accelerate/card-numbers", level="core")
@pytest.mark.parametrize("workload", NUMBERS, ids=["first", "second"])
def test_numbers_name_the_cards(one_process, evidence, workload):
    """Whatever takes the number of a card puts its tensors on that card and on no other, with their values."""
    import torch

    details = one_process(workload).details

    card = workload.card
    elsewhere = {call: device for call, device in details["devices"].items() if device != f"npu:{card}"}
    evidence.check_equal("calls that put their tensor elsewhere", elsewhere, {})
    expected = torch.arange(12.0).reshape(3, 4)
    evidence.check_equal("values", details["values"], dict.fromkeys(details["values"], expected))
    evidence.check_equal("device of the part that the map leaves on the CPU", details["cpu part"], "cpu")
    for number, taken in enumerate(details["taken"]):
        wanted = details["block"] if number == card else 0
        evidence.check_below(f"error of the memory taken on card {number}", abs(taken - wanted), 2**25, "32 MiB")


@requirement("accelerate/max-memory-of-cards", level="core")
def test_max_memory_is_what_each_card_has(one_process, evidence):
    """The memory that get_max_memory finds is what each card has free, and shrinks where some is taken."""
    details = one_process(MEMORY).details

    before, after = details["before"], details["after"]
    evidence.add(**{name: details[name] for name in ("before", "after", "free", "total")})
    evidence.check_equal("devices", list(before), [0, 1, "cpu"])
    for card in (0, 1):
        error, total = abs(before[card] - details["free"][card]), details["total"][card]
        evidence.check_below(
            f"difference to mem_get_info of card {card}, part of the total", error / total, 0.01, "1 %"
        )
        assert before[card] <= total
        taken = before[card] - after[card] - (details["block"] if card == MEMORY.card else 0)
        evidence.check_below(f"error of the memory taken on card {card}", abs(taken), 2**26, "64 MiB")

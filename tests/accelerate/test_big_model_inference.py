"""Big models with accelerate on one card: maps, offload to host memory and disk, hooks and their removal."""

import gc

import pytest

from fixtures import activity
from fixtures.placement_checks import GUARD, check_computed, check_placed
from fixtures.requirement import requirement
from fixtures.workloads.model_placement import Placed

pytestmark = [pytest.mark.single_npu, pytest.mark.big_model_inference]

WHOLE = (("", "npu:0"),)
FIRST, SECOND = (
    ("model.embed_tokens", "model.rotary_emb", "model.layers.0"),
    ("model.layers.1", "model.norm", "lm_head"),
)
GPT2 = ("transformer.wte", "transformer.wpe", "transformer.drop", "transformer.h.0")


def split(first: str | int, second: str | int) -> tuple:
    """A map of the two halves of a Llama."""
    return tuple((name, first) for name in FIRST) + tuple((name, second) for name in SECOND)


MAPS = {
    "cpu": split(0, "cpu"),
    "disk": split("npu:0", "disk"),
    "cpu-and-disk": (*((name, 0) for name in FIRST), ("model.layers.1", "cpu"), ("model.norm", 0), ("lm_head", "disk")),
}
# Less than the model needs: 450 KB, and room for the largest layer that is offloaded.
LITTLE = ((0, "420KB"), ("cpu", "100MB"))
VERY_LITTLE = ((0, "420KB"), ("cpu", "1KB"))


def require_placed(train, reference, evidence, spec: Placed):
    """A model is where its map says and computes what the CPU does. Returns what was measured."""
    measured = train(spec)

    check_placed(evidence, spec, measured, reference)
    return measured


@requirement("accelerate/max-memory", level="core")
def test_max_memory_is_what_the_card_has(npu, evidence):
    """The memory that get_max_memory finds is the card's free memory, and shrinks by what is allocated."""
    import torch
    from accelerate.utils import get_max_memory

    block = 512 * 2**20
    torch.npu.empty_cache()  # or the block is one that an earlier test left to the allocator
    before, (free, total) = get_max_memory(), torch.npu.mem_get_info(0)
    held = torch.empty(block, dtype=torch.uint8, device=npu)
    after = get_max_memory()

    evidence.add(before=before, after=after, free=free, total=total)
    evidence.check_equal("devices", list(before), [*range(torch.npu.device_count()), "cpu"])
    assert before[0] <= total == torch.npu.get_device_properties(0).total_memory
    evidence.check_below("difference to mem_get_info, part of the total", abs(before[0] - free) / total, 0.01, "1 %")
    evidence.check_below(
        "error of the memory taken", abs(before[0] - after[0] - held.numel()), 64 * 2**20, "blocks of the allocator"
    )
    evidence.check_equal("limits in words", get_max_memory({0: "1GiB", "cpu": "2GB"}), {0: 2**30, "cpu": 2 * 10**9})


@requirement("accelerate/infer-device-map", level="core")
@pytest.mark.parametrize(("host", "rest"), [(1_000_000, "cpu"), (1_000, "disk")])
def test_inferred_map_fills_the_card_first(npu, evidence, host, rest):
    """A map inferred for too small a card fills card, host memory and disk in this order, and names each layer once."""
    import torch
    from accelerate import infer_auto_device_map, init_empty_weights
    from accelerate.utils import compute_module_sizes

    from fixtures import model_families

    model, _ = model_families.make("llama")
    sizes, layer = compute_module_sizes(model), ["LlamaDecoderLayer"]
    limits = {0: 400_000, "cpu": host}
    found = infer_auto_device_map(model, dict(limits), no_split_module_classes=layer)
    whole = infer_auto_device_map(model, no_split_module_classes=layer)
    with init_empty_weights():
        empty = type(model)(model.config)
    unweighted = infer_auto_device_map(empty, dict(limits), no_split_module_classes=layer)

    evidence.add(map=found, sizes={name: sizes[name] for name in found})
    evidence.check_equal("map of a model that fits", whole, {"": 0})
    evidence.check_equal("map of a model without weights", unweighted, found)
    order = [0, "cpu", "disk"]
    places = [order.index(where) for name, where in found.items() if sizes[name] > 1000]
    evidence.check_equal("places, in the order of the layers", places, sorted(places))
    evidence.check_equal("places", set(found.values()), {0, rest})
    for where, limit in limits.items():
        used = sum(sizes[name] for name, place in found.items() if place == where)
        evidence.check_below(f"bytes on {where}", used, limit, "max_memory")
    named = [p for p, _ in model.named_parameters() if sum(p.startswith(f"{m}.") for m in found) != 1]
    evidence.check_equal("parameters not named once", named, [])
    assert torch.npu.is_initialized()


@requirement("accelerate/dispatch-model", level="core")
@pytest.mark.parametrize("name", MAPS)
def test_dispatched_model_computes_what_the_cpu_does(train, reference, evidence, name):
    """A model over card, host memory and disk is where the map says, and gives the CPU's outputs and tokens."""
    require_placed(train, reference, evidence, Placed("dispatch_model", MAPS[name], task="generate"))


@requirement("accelerate/dispatch-model-one-card", level="core")
@pytest.mark.parametrize("device", ["npu:0", "npu"])
def test_model_dispatched_to_one_card_is_there(train, reference, evidence, device):
    """A model dispatched to one card by name is there with all parameters and buffers."""
    require_placed(train, reference, evidence, Placed("dispatch_model", (("", device),)))


@requirement("accelerate/dispatch-model-card-number", level="core")
def test_model_dispatched_to_a_card_number_is_there(npu, train, reference, evidence):
    """A model dispatched to one card by its number is there with all parameters and buffers."""
    require_placed(train, reference, evidence, Placed("dispatch_model", (("", 0),)))


@requirement("accelerate/dispatch-tied-weights", level="core")
@pytest.mark.parametrize("where", ["cpu", "disk"])
def test_tied_weights_stay_tied(train, reference, evidence, where):
    """Tied weights stay one parameter when they are dispatched, and give the CPU's outputs where part is offloaded."""
    spec = Placed(
        "dispatch_model",
        (*((name, 0) for name in GPT2), ("transformer.h.1", where), ("transformer.ln_f", where), ("lm_head", 0)),
        family="gpt2",
        task="generate",
    )

    measured = require_placed(train, reference, evidence, spec)

    evidence.check_equal("tied", measured.details["tied"], (("lm_head.weight", "transformer.wte.weight"),))


@requirement("accelerate/dispatch-buffers", level="core")
@pytest.mark.parametrize("offload_buffers", [False, True])
@pytest.mark.parametrize("where", ["cpu", "disk"])
def test_buffers_follow_their_module(train, reference, evidence, where, offload_buffers):
    """Running statistics of an offloaded module stay on the card, or leave it with the weights where that is asked."""
    device_map = (("resnet.embedder", 0), ("resnet.pooler", 0), ("resnet.encoder", where), ("classifier", 0))
    require_placed(
        train, reference, evidence,
        Placed("dispatch_model", device_map, family="resnet", offload_buffers=offload_buffers),
    )  # fmt: skip


@requirement("accelerate/load-checkpoint-and-dispatch", level="core")
@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(Placed("load_checkpoint_and_dispatch", WHOLE), id="one-card"),
        pytest.param(Placed("load_checkpoint_and_dispatch", MAPS["cpu"], task="generate"), id="cpu"),
        pytest.param(Placed("load_checkpoint_and_dispatch", MAPS["disk"], task="generate"), id="disk"),
        pytest.param(Placed("load_checkpoint_and_dispatch", MAPS["cpu-and-disk"]), id="cpu-and-disk"),
        pytest.param(Placed("load_checkpoint_and_dispatch", "auto", max_memory=LITTLE), id="auto"),
        pytest.param(Placed("load_checkpoint_and_dispatch", "auto", max_memory=VERY_LITTLE), id="auto-with-disk"),
        pytest.param(Placed("load_checkpoint_and_dispatch", MAPS["cpu"], family="qwen3"), id="qwen3"),
        pytest.param(
            Placed("load_checkpoint_and_dispatch", MAPS["cpu"], dtype="bfloat16"), id="bf16", marks=pytest.mark.bf16
        ),
        pytest.param(
            Placed("load_checkpoint_and_dispatch", MAPS["disk"], dtype="float16"), id="fp16", marks=pytest.mark.fp16
        ),
    ],
)
def test_sharded_checkpoint_is_loaded_where_the_map_says(train, reference, evidence, spec):
    """A sharded checkpoint loaded into an empty model fills card, host memory and disk as mapped, in its own dtype."""
    measured = require_placed(train, reference, evidence, spec)

    evidence.check_equal("dtypes", measured.details["dtypes"], (f"torch.{spec.dtype}",))
    if spec.device_map == "auto":
        rest = "cpu" if spec.max_memory == LITTLE else "disk"
        evidence.check_equal("places", set(measured.details["map"].values()), {"0", rest})


@requirement("accelerate/load-checkpoint-card-number", level="core")
def test_checkpoint_loaded_to_a_card_number_is_there(train, reference, evidence):
    """A checkpoint loaded to one card by its number brings parameters and buffers there."""
    require_placed(train, reference, evidence, Placed("load_checkpoint_and_dispatch", (("", 0),)))


@requirement("accelerate/offload", level="core")
@pytest.mark.parametrize("way", ["cpu_offload", "disk_offload"])
def test_offloaded_model_computes_on_the_card(train, reference, evidence, way):
    """A model offloaded whole is on the card only while it computes there, and gives the CPU's outputs."""
    spec = Placed(way, "npu:0", remove=True)

    measured = train(spec)

    details = measured.details
    expected = {n: "npu:0" if n in details["buffers"] else "meta" for n in details["placement"]}
    evidence.check_equal("placement", details["placement"], expected)
    evidence.check_equal("placement after a forward pass", details["placement afterwards"], expected)
    check_computed(evidence, spec, measured, reference(spec, "float64"), reference(spec, "float32"))


@requirement("accelerate/hook-removal", level="core")
@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(Placed("cpu_offload", "npu:0", remove=True), id="cpu_offload"),
        pytest.param(Placed("disk_offload", "npu:0", remove=True), id="disk_offload"),
        pytest.param(Placed("dispatch_model", MAPS["cpu-and-disk"], remove=True), id="dispatch_model"),
    ],
)
def test_removing_the_hooks_restores_the_model(train, reference, evidence, spec):
    """Without its hooks an offloaded model has its weights again, bit for bit, and can be moved to the card."""
    restored = train(spec).details["restored"]

    evidence.check_equal("weights that differ", restored["weights that differ"], [])
    evidence.check_equal("hooks left", restored["hooks"], [])
    assert "meta" not in restored["placement"].values()
    evidence.check_equal("devices when moved", set(restored["placement moved"].values()), {"npu:0"})
    truth, peer = (reference(spec, dtype).details["outputs"] for dtype in ("float64", "float32"))
    evidence.check_tensors("output when moved", restored["outputs"], truth, peer)


@requirement("accelerate/guarded-moves", level="core")
@pytest.mark.parametrize("name", MAPS)
def test_an_offloaded_model_refuses_to_be_moved(train, evidence, name):
    """A dispatched model with offloaded parts refuses to() and npu() in words, and stays as it was."""
    moves = train(Placed("dispatch_model", MAPS[name], task="generate")).details["moves"]

    evidence.check_equal("what moving raises", moves, {"to": GUARD, "npu": GUARD})


@requirement("accelerate/empty-weights", level="core")
def test_empty_weights_take_no_memory(npu, evidence):
    """A model initialised empty takes no memory; initialised on the card, all of it is there."""
    import torch
    from accelerate import init_empty_weights, init_on_device

    from fixtures import model_families
    from fixtures.workloads.model_placement import placement

    model, _ = model_families.make("resnet")
    before = activity.of_this_process().allocations
    with init_empty_weights():
        empty = type(model)(model.config)
    with init_empty_weights(include_buffers=True):
        bare = type(model)(model.config)
    taken = activity.of_this_process().allocations - before
    gc.collect()  # what earlier tests left is not to be freed while memory is measured
    held = torch.npu.memory_allocated()
    with init_on_device(npu, include_buffers=True):
        there = type(model)(model.config)

    evidence.check_equal("allocations on the card", taken, 0)
    evidence.check_equal("devices of parameters", {str(p.device) for p in empty.parameters()}, {"meta"})
    evidence.check_equal("devices of buffers", {str(b.device) for b in empty.buffers()}, {"cpu"})
    evidence.check_equal("devices without buffers", set(placement(bare).values()), {"meta"})
    evidence.check_equal("devices of a model made on the card", set(placement(there).values()), {"npu:0"})
    expected = sum(t.numel() * t.element_size() for t in [*there.parameters(), *there.buffers()])
    assert torch.npu.memory_allocated() - held >= expected


@requirement("accelerate/offload-with-hook", level="core")
def test_models_of_a_chain_take_turns_on_the_card(npu, evidence):
    """Models chained by cpu_offload_with_hook are on the card one at a time, and compute what the CPU does."""
    import torch
    from accelerate import cpu_offload_with_hook

    torch.manual_seed(0)
    chain = [torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.Tanh()) for _ in range(3)]
    x = torch.randn(4, 32)
    with torch.no_grad():
        truth = x.double()
        for model in chain:
            truth = model.double()(truth)
            model.float()
        peer = chain[2](chain[1](chain[0](x)))
    hooks = []
    for number, model in enumerate(chain):
        device = 0 if number == 0 else "npu:0"
        hooks.append(cpu_offload_with_hook(model, device, prev_module_hook=hooks[-1] if hooks else None)[1])

    where, y = [], x
    with torch.no_grad():
        for model in chain:
            y = model(y)
            where.append([str(next(m.parameters()).device) for m in chain])
    hooks[-1].offload()

    turns = [["npu:0" if i == turn else "cpu" for i in range(3)] for turn in range(3)]
    evidence.check_equal("devices after each model", where, turns)
    evidence.check_equal("devices in the end", [str(next(m.parameters()).device) for m in chain], ["cpu"] * 3)
    evidence.check_equal("device of the output", str(y.device), "npu:0")
    evidence.check_tensor("output", y.cpu(), truth, peer)

"""A failed comparison names the operator, or the collective and the rank, that is wrong."""

import contextlib
import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from cpu_torch import torch

from torch.utils._python_dispatch import TorchDispatchMode  # isort: skip
from fixtures import training  # isort: skip
from fixtures.localisation import collective_snippet, equivalents, plugin, replay, snippet  # isort: skip
from fixtures.localisation.snippet import Alone  # isort: skip
from fixtures.workloads.model_step import ModelStep  # isort: skip
from fixtures.localisation.collectives import Collective, asked_reduction, first_wrong, reductions_known  # isort: skip

ROOT = Path(__file__).resolve().parents[2]


def step(faults: str, dropout: float = 0.0, precision: str = "no") -> dict:
    """What localised_step.py says on a card with these faults."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "emulator",
            sys.executable,
            "-m",
            "meta_tests.suite.localised_step",
            str(dropout),
            precision,
        ],
        cwd=ROOT,
        env={**os.environ, "NPU_EMULATOR_FAULTS": faults},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("dropout", "precision"), [(0.0, "no"), (0.1, "fp16")])
def test_no_operator_of_an_honest_card_deviates(dropout, precision):
    """On an honest card nothing deviates, and all operators but attention with dropout can be compared."""
    said = step("", dropout, precision)

    assert said["deviations"] == []
    assert said["replayed"] > 200
    assert [name for name in said["unknown"] if "fusion_attention" not in name or not dropout] == []


@pytest.mark.parametrize(
    ("faults", "operator", "module", "phase"),
    [
        (
            "aclnnLayerNormBackward:scale=1.05,output=1",
            "aten.native_layer_norm_backward",
            "layer.1.output.LayerNorm",
            "backward",
        ),
        ("aclnnFlashAttentionScoreGrad:scale=1.02,output=1", "npu.npu_fusion_attention_grad_v3", "", "backward"),
        ("aclnnForeachSqrt:scale=1.01", "aten._foreach_sqrt", "", "forward"),
        ("aclnnAddmm:tail=4", "aten.addmm", "attention.self", "forward"),
        ("aclnnDropoutGenMaskV2:ignore-seed", "aten.native_dropout", "embeddings.dropout", "forward"),
        ("aclnnInplaceCopy:round=trunc@dtype=fp16", "aten._to_copy", "attention.self.query", "forward"),
        ("aclnnInplaceCopy:tail=1", "aten.clone", "attention.self", "forward"),
    ],
)
def test_the_faulty_operator_is_named(faults, operator, module, phase):
    """The first operator that deviates is the faulty one, with the name that CANN knows, and reproduced alone."""
    half, drops = "fp16" in faults, "Dropout" in faults
    said = step(faults, 0.1 if drops else 0.0, "fp16" if half else "no")

    first = said["deviations"][0]
    assert first["operator"].startswith(f"{operator}.")
    assert module in first["module"]
    assert first["phase"] == phase
    assert first["error"] is None or first["error"] > first["limit"]  # None: equal or not
    assert faults.split(":")[0] in said["calls"], said["said"]
    assert said["reproduces"] is True
    assert operator.split(".")[1] in said["snippet"]


def test_the_failure_says_which_operator(tmp_path):
    """A failing test's message and evidence name the operator, and the snippet is in the journal."""
    test = "tests/transformers/test_models.py::test_step_matches_the_cpu[llama]"
    done = subprocess.run(
        [sys.executable, "-m", "emulator", "pytest", "-n", "0", "--run-dir", tmp_path / "run", test],
        cwd=ROOT,
        env={**os.environ, "NPU_EMULATOR_FAULTS": "aclnnSilu:scale=1.02"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert "operator:    aten.silu.default (aclnnSilu)" in done.stdout, done.stdout[-3000:]
    records = [json.loads(line) for line in (tmp_path / "run/journal.jsonl").read_text().splitlines()]
    (record,) = [record for record in records if record["type"] == "test"]
    (finding,) = [finding for finding in record["findings"] if finding["kind"] == "localised"]
    assert finding["calls"] == ["aclnnSilu"]
    assert "act_fn" in finding["module"]
    assert finding["reproduces"] is True


@pytest.mark.parametrize("seen", [1, 3, None])
def test_what_comes_and_goes_is_looked_for_again(monkeypatch, seen):
    """A workload in which nothing deviates is run again: what is wrong at every so many calls may be right in one."""
    made = []
    deviation = replay.Deviation("aten.embedding.default", "output 0", "a", "b", 2.0, 1.0, "", "forward", 1)

    def looking():
        looked = SimpleNamespace(replayed=10, unknown={}, deviations=[deviation] if len(made) + 1 == seen else [])
        return contextlib.nullcontext(looked)

    monkeypatch.setattr(training, "run", lambda workload, device: made.append(workload))
    monkeypatch.setattr(replay, "Replay", looking)
    monkeypatch.setattr(snippet, "run_alone", lambda call, directory: Alone("text", False, ("aclnnEmbedding",), "said"))

    facts = plugin.localise(Workload())

    text = "\n".join(plugin._lines(facts))
    assert len(made) == facts["runs"] == (seen or plugin.RUNS)
    assert facts["replayed"] == 10 * len(made)
    assert ("comes and goes" in text) == (seen == 3)
    assert ("none of 50 deviates by itself in 5 runs" in text) == (seen is None)


def test_scratch_of_log_sigmoid_is_not_compared():
    """What log_sigmoid leaves for its backward pass, which is empty on the card, is neither compared nor needed."""
    values = torch.linspace(-30, 30, 61, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.logsigmoid(values)
    expected.sum().backward()
    scratch = torch.empty(0)

    forward = equivalents.KNOWN["log_sigmoid_forward"](values, outputs=[expected, scratch])
    (backward,) = equivalents.KNOWN["log_sigmoid_backward"](torch.ones(61), values, scratch, outputs=[values.grad])

    assert forward[1] is None
    torch.testing.assert_close(forward[0], expected)
    torch.testing.assert_close(backward, values.grad)


@pytest.mark.parametrize("mask", [[True, False], [False, True], [True, True]])
def test_an_output_that_was_not_asked_for_is_not_compared(mask):
    """A backward pass told by output_mask to leave one of its results out may leave anything in its place."""
    image, grid = torch.randn(1, 2, 4, 4), torch.rand(1, 3, 3, 2) - 0.5
    given = (torch.ones(1, 2, 3, 3), image, grid, 0, 0, False, mask)
    function = torch.ops.aten.grid_sampler_2d_backward.default

    results = replay._results(function, (given, {}), function(*given))

    assert [value is not None for value in results.values()] == mask


def calls(name: str, given: list, got: list, reduction: str = "", root: int = -1, **more) -> list[list[Collective]]:
    """One collective of as many ranks as there are tensors."""
    ranks = tuple(range(len(given)))
    return [[Collective(name, ranks, reduction, root, a, b, **more)] for a, b in zip(given, got, strict=True)]


A, B, C = (torch.tensor([value, 2 * value]) for value in (1.0, 10.0, 100.0))


@pytest.mark.parametrize(
    ("together", "cause"),
    [
        (calls("allreduce_", [A, B, C], [A + B + C] * 3, "SUM"), None),
        (calls("allreduce_", [A, B, C], [(A + B + C) / 3] * 3, "AVG"), None),
        (calls("allreduce_", [A, B, C], [A + C] * 3, "SUM"), "the contribution of rank 1 is missing"),
        (calls("allreduce_", [A, B, C], [A + B + C, A + B, A + B + C], "SUM"), "the contribution of rank 2 is missing"),
        (calls("allreduce_", [A, B, -C], [B] * 3, "SUM"), "reduced by MAX instead of SUM"),
        (calls("allreduce_", [A, B, C], [A] * 3, "SUM"), "reduced by MIN instead of SUM"),
        (calls("allreduce_", [A, B, C], [B + 7] * 3, "SUM"), "not what the ranks handed in give"),
        (calls("reduce_", [A, B, C], [A, A + B + C, C], "SUM", 1), None),
        (calls("broadcast_", [A, B, C], [B, B, C], root=1), "has what rank 2 handed in"),
        (calls("_allgather_base_", [A, B], [torch.cat([A, B])] * 2), None),
        (calls("_allgather_base_", [A, B], [torch.cat([A, A])] * 2), "the part of rank 1 is not what it handed in"),
        (calls("_reduce_scatter_base_", [A, B], [(A + B)[:1], (A + B)[1:]], "SUM"), None),
        (calls("_reduce_scatter_base_", [A, B], [A[:1], (A + B)[1:]], "SUM"), "the contribution of rank 1 is missing"),
        (calls("alltoall_base_", [A, B], [torch.tensor([1.0, 10.0]), torch.tensor([2.0, 20.0])]), None),
        (
            calls("alltoall_base_", [A, B], [torch.tensor([10.0, 1.0]), torch.tensor([2.0, 20.0])]),
            "the part of rank 0, 1 is not what it handed in",
        ),
    ],
)
def test_what_is_wrong_with_a_collective(together, cause):
    """The first wrong result is found, with the simple lie that explains it; a right one is not blamed."""
    found = first_wrong(together)

    assert (found and found[0]["cause"]) == cause


@pytest.mark.parametrize(
    "together",
    [
        calls("allreduce_", [A, B, C], [A + B + C] * 3, "SUM"),
        calls("allreduce_", [A, B, C], [(A + B + C) / 3] * 3, "AVG"),
        calls("allreduce_coalesced_", [A, B], [B] * 2, "MAX"),
        calls("reduce_", [A, B, C], [A, A + B + C, C], "SUM", 1),
        calls("broadcast_", [A, B, C], [C, C, C], root=2),
        calls("_allgather_base_", [A, B], [torch.cat([A, B])] * 2),
        calls("allgather_", [A, B], [torch.cat([A, B])] * 2),
        calls("_reduce_scatter_base_", [A, B], [(A * B)[:1], (A * B)[1:]], "PRODUCT"),
        calls("reduce_scatter_", [A, B], [A[:1], A[1:]], "MIN"),
        calls("alltoall_base_", [A, B], [torch.tensor([1.0, 10.0]), torch.tensor([2.0, 20.0])]),
        [
            [Collective("alltoall_base_", (0, 1), "", -1, A, torch.tensor([10.0]), ((0, 1), (0, 2)))],
            [Collective("alltoall_base_", (0, 1), "", -1, B, torch.tensor([1.0, 2.0, 20.0]), ((2, 1), (1, 1)))],
        ],
    ],
)
def test_the_script_of_a_collective_knows_what_each_rank_must_get(together):
    """What the script expects is what a right collective gives, and it hands in what the ranks handed in."""
    records = [own[0] for own in together]
    text = collective_snippet.write(records)
    names: dict = {}
    previous = os.environ.get("RANK")
    os.environ["RANK"] = "0"
    try:
        exec(text.replace("import torch, torch_npu", "import torch"), names)
    finally:
        os.environ.pop("RANK") if previous is None else os.environ.update(RANK=previous)

    assert first_wrong(together) is None
    for rank, record in enumerate(records):
        assert torch.equal(names["given"](rank), record.given)
        if record.name != "reduce_" or rank == record.root:
            assert torch.equal(names["expected"](rank), record.got.double())
        else:
            assert names["expected"](rank) is None


class Seen(TorchDispatchMode):
    """Notes which reduction a collective is taken for."""

    def __init__(self):
        super().__init__()
        self.reductions = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._schema.name.startswith("c10d::"):
            self.reductions.append(asked_reduction())
        return func(*args, **(kwargs or {}))


def test_which_reduction_was_asked_for(tmp_path):
    """By whichever function of torch.distributed, also through those that call others; a sum where nothing is said."""
    dist, values = torch.distributed, torch.ones(4)
    scatter = [name for name in ("reduce_scatter_tensor", "reduce_scatter_single") if hasattr(dist, name)]
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        with reductions_known(), Seen() as seen:
            dist.all_reduce(values, op=dist.ReduceOp.MAX)
            dist.reduce(values, 0, dist.ReduceOp.PRODUCT)
            for name in scatter:
                getattr(dist, name)(torch.empty(4), values, op=dist.ReduceOp.MIN)
            dist.all_reduce(values)
    finally:
        dist.destroy_process_group()

    assert seen.reductions == ["MAX", "PRODUCT", *["MIN"] * len(scatter), "SUM"]


def test_a_sum_may_be_rounded():
    """Sums in half precision that differ by rounding are right."""
    parts = [torch.full((3,), value, dtype=torch.float16) for value in (1000.0, 0.3, 0.4)]
    in_another_order = (parts[1] + parts[2]) + parts[0]

    assert first_wrong(calls("allreduce_", parts, [in_another_order] * 3, "SUM")) is None


class SeenRanks:
    """Ranks that ran again and left this; the script of a collective shows it."""

    def __init__(self, left: dict):
        self.left, self.scripts = left, []

    def watched(self, workload, asked):
        return self.left

    def alone(self, text, world_size, env):
        self.scripts.append((text, world_size, env))
        return Alone(text, True, (), "rank 0: largest 1, error 1")


@dataclass(frozen=True)
class Workload:
    """What ran on the ranks."""

    steps: int = 5


def left_by(collective, *deviations, alone=None) -> dict:
    """What one rank leaves."""
    return {"deviations": list(deviations), "collectives": [collective], "replayed": 3, "alone": alone}


DEVIATION = {
    **{
        "operator": "aten.mm.default",
        "output": "output 0",
        "expected": "x <= 1",
        "found": "2",
        "error": 2.0,
        "limit": 1.0,
    },
    **{"module": "", "phase": "forward", "number": 2, "inputs": ["(2, 2)"]},
}


def test_what_is_said_of_a_collective_of_several_ranks():
    """The message has the collective, HCCL's name, the ranks, what is missing, and whether the script shows it."""
    first, second = (own[0] for own in calls("allreduce_", [A, B], [A, A], "SUM", shapes=((2,),)))
    seen = SeenRanks({0: left_by(first), 1: left_by(second)})

    facts = plugin.localise_ranks(seen, (Workload(), (2, 2, "torchrun", ()), {"X": "1"}))

    assert "\n".join(plugin._lines(facts)) == (
        "collective:  allreduce (SUM) (HcclAllReduce), call 0 of ranks [0, 1]\n"
        "             inputs (2,) torch.float32\n"
        "             on rank 0: the contribution of rank 1 is missing\n"
        "alone:       the snippet in the journal shows it"
    )
    ((text, world_size, env),) = seen.scripts
    assert (text, world_size, env) == (facts["snippet"], 2, {"X": "1"})
    assert "allreduce SUM of 2 ranks (0, 1)" in text


def test_what_is_said_of_an_operator_on_one_rank():
    """An operator that deviates on a rank comes before collectives, with what was seen on that rank's card."""
    first, second = (own[0] for own in calls("allreduce_", [A, B], [A, A], "SUM"))
    alone = Alone("text", True, ("aclnnMm",), "said").facts()
    seen = SeenRanks({0: left_by(first), 1: left_by(second, DEVIATION, alone=alone)})

    facts = plugin.localise_ranks(seen, (Workload(), (2, 2, "torchrun", ()), None))

    lines = plugin._lines(facts)
    assert lines[0] == "operator:    aten.mm.default (aclnnMm), output 0, outside of any module on rank 1"
    assert lines[-1] == "alone:       the snippet in the journal shows it"
    assert (facts["snippet"], facts["replayed"], seen.scripts) == ("text", 6, [])


DATA_PARALLEL = """
import os
from dataclasses import dataclass
from fixtures.measured import Measured

@dataclass(frozen=True)
class Linear:
    size: int = 4

def run(spec, device, dtype=None):
    import torch
    rank = int(os.environ["RANK"])
    torch.npu.set_device(rank)
    torch.distributed.init_process_group("hccl")
    torch.manual_seed(0)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(spec.size, 1).npu())
    model(torch.full((2, spec.size), rank + 1.0, device="npu")).sum().backward()
    return Measured(losses=(), details={"gradient": model.module.weight.grad.cpu()})
"""


def test_the_rank_whose_contribution_is_missing(suite, built):
    """A failed comparison of several ranks names the collective and the rank that it left out."""
    test = """
    from data_parallel import Linear

    @requirement("demo/ranks")
    def test_gradient(ranks, evidence):
        '''Gradients are averaged.'''
        import torch
        for measured in ranks(Linear(), 2):
            evidence.check_equal("gradient", measured.details["gradient"], torch.full((1, 4), 3.0))
    """
    faults = {"NPU_EMULATOR_FAULTS": "HcclAllReduce:drop-rank=1"}

    ran = suite(test, "-n", "0", modules={"data_parallel": DATA_PARALLEL}, env=faults, emulated=True)

    record = ran.tests["test_gradient"]
    assert record["outcome"] == "FAIL", ran.stdout
    assert "collective:  allreduce (SUM)" in record["reason"]
    assert "the contribution of rank 1 is missing" in record["reason"]
    assert "allreduce (SUM) (HcclAllReduce), call " in record["reason"]
    (finding,) = [finding for finding in record["findings"] if finding["kind"] == "localised"]
    assert finding["reproduces"] is True, finding["said"]
    assert "dist.all_reduce(x, op=dist.ReduceOp.SUM)" in finding["snippet"]


def test_an_operator_that_is_wrong_on_one_rank(tmp_path, built):
    """A rank leaves the operator that deviates there, and its script has run with that rank's number and card."""
    (tmp_path / "workloads.pickle").write_bytes(pickle.dumps([ModelStep("llama")]))
    rank = {"RANK": "1", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "ASCEND_RT_VISIBLE_DEVICES": "1"}
    faults = {"NPU_EMULATOR_FAULTS": "aclnnSilu:scale=1.02@rank=1,card=1", "NPU_CONFORMANCE_LOCALISE": "1"}
    command = [sys.executable, "-m", "emulator", sys.executable, "-m", "fixtures.rank_process", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **rank, **faults}, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr[-2000:]
    left = pickle.loads((tmp_path / "rank-1.0.localised").read_bytes())
    assert left["deviations"][0]["operator"] == "aten.silu.default"
    assert left["alone"]["calls"] == ("aclnnSilu",)
    assert left["alone"]["reproduces"] is True, left["alone"]["said"]

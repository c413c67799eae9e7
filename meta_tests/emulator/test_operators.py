"""The emulator's operators against the CPU, and the operator sweep itself against injected faults."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from meta_tests.emulator import operator_sweep
from meta_tests.emulator.operator_findings import LIST, Finding, InvalidList, allowed_differences, stale, unexplained

SHARDS = 6

# Each fault with the operator that it makes wrong: (fault, operator, how the sweep finds it).
FAULTS = [
    ("aclnnMul:scale=1.01", "mul", "forward"),
    ("aclnnSoftmax:bias=0.01", "softmax", "forward"),
    ("aclnnCumsum:tail=1", "cumsum", "forward"),
    ("aclnnMm:round=bf16", "mm", "forward"),
    ("aclnnEmbedding:zero", "nn_functional_embedding", "forward"),
    ("aclnnLayerNormBackward:scale=1.05,output=1", "nn_functional_layer_norm", "backward"),
    ("aclnnInplaceTanh:null", "tanh", "in-place"),
    ("aclnnSort:clip=0.5", "sort", "forward"),
    ("aclnnIndexSelect:stale", "index_select", "forward"),
    ("aclnnErf:nan=0", "erf", "forward"),
    ("aclnnBitwiseXorTensor:zero", "bitwise_xor", "forward"),
    ("aclnnForeachSqrt:scale=0.99", "_foreach_sqrt", "forward"),
    ("aclnnInplaceUniform:same-seed", "uniform", "random"),
    ("aclnnRoll:crash", "roll", "process"),
]
CONTROLS = ("sub", "flip", "sign", "logical_and", "cat")


@pytest.fixture(scope="module")
def built():
    """The emulator is built, so that no child has to wait for it."""
    subprocess.run([*operator_sweep.launcher()[:3], "--build"], cwd=operator_sweep.ROOT, check=True)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_operators_equal_the_cpu(shard, tmp_path, record_property, built):
    """All of PyTorch's operators give the CPU's results, gradients and side effects, or differ for a listed reason."""
    allowed = allowed_differences()

    sweep = operator_sweep.sweep_shard(shard, SHARDS, "", operator_sweep.DTYPES, tmp_path)

    record_property("operator_sweep", sweep.figures())
    wrong = unexplained(sweep.findings, allowed)
    outdated = stale(sweep.findings, allowed, set(sweep.swept), sweep.known)
    assert len(sweep.swept) > 100, "most of the shard's operators were not compared"
    assert not wrong, report("differ and no entry explains it", operator_sweep.digest(wrong))
    assert not outdated, report("are listed and do not differ", outdated)


def report(what: str, lines: list[str]) -> str:
    """The failure's message."""
    command = "python -m meta_tests.emulator.operator_sweep --operators '^NAME$'"
    return f"{len(lines)} operators {what} in {LIST.name}; alone: {command}\n" + "\n".join(lines[:60])


def test_random_numbers_have_the_distribution_and_obey_the_seed(built):
    """Random functions draw from the CPU's distributions, go on from draw to draw, and repeat for a seed."""
    with tempfile.TemporaryDirectory() as folder:
        child = subprocess.run(
            [*operator_sweep.launcher(), sys.executable, "-m", "meta_tests.emulator.random_distributions"],
            cwd=operator_sweep.ROOT,
            env=operator_sweep.child_environment(Path(folder, "log")),
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert child.returncode == 0, child.stderr[-3000:]

    records = [json.loads(line) for line in child.stdout.splitlines() if line.startswith("{")]

    assert len(records) > 20
    for record in records:
        assert record["devices"] == ["npu"], record
        assert record["dtype"], record
        assert record["reproducible"], record
        assert record["advances"], record
        assert record["seeded"], record
        assert record["p_value"] > 1e-3, record


def test_the_sweep_finds_injected_faults(tmp_path, built):
    """A wrong operator makes the sweep report that operator, by the check that sees the fault, and no other."""
    operators = "|".join([operator for _, operator, _ in FAULTS] + list(CONTROLS))
    environment = {"NPU_EMULATOR_FAULTS": ";".join(fault for fault, _, _ in FAULTS)}

    sweep = operator_sweep.sweep_shard(0, 1, f"^({operators})$", ("float32", "int64"), tmp_path, environment)

    wrong = unexplained(sweep.findings, allowed_differences())
    found = {(finding.operator, finding.check) for finding in wrong}
    missed = [fault for fault, operator, check in FAULTS if (operator, check) not in found]
    assert not missed, f"not found: {missed}; found were {sorted(found)}"
    assert {operator for operator, _ in found} == {operator for _, operator, _ in FAULTS}
    assert {operator for operator, _ in sweep.swept} >= set(CONTROLS)


def test_a_silent_child_is_ended(tmp_path, monkeypatch):
    """A child that writes nothing for longer than the sweep's patience is killed and reported as a hang."""
    monkeypatch.setattr(operator_sweep, "PATIENCE_SECONDS", 1.0)
    events = tmp_path / "events"
    events.touch()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)

    end = operator_sweep.wait(child, events)

    assert end.startswith("a hang")
    assert child.poll() is not None


ENTRY = """
[[difference]]
operators = ["gelu"]
cause = "torch_npu"
reason = "It has another formula."
checks = ["forward"]
message = "values"
at_most = 0.01
"""


def entries(tmp_path, text):
    """The list with this text."""
    file = tmp_path / "list.toml"
    file.write_text(text)
    return allowed_differences(file)


def test_an_entry_explains_what_it_says_and_no_more(tmp_path):
    """An entry of the list explains findings of its operator, check, message and size, and nothing else."""
    allowed = entries(tmp_path, ENTRY)
    explained = Finding("gelu", "float32", "forward", "values: 1 of 2 elements differ", error=0.001)
    others = [
        Finding("relu", "float32", "forward", "values: 1 of 2 elements differ", error=0.001),
        Finding("gelu", "float32", "backward", "values: 1 of 2 elements differ", error=0.001),
        Finding("gelu", "float32", "forward", "shape (1,) expected", error=None),
        Finding("gelu", "float32", "forward", "values: 1 of 2 elements differ", error=0.1),
    ]

    assert unexplained([explained, *others], allowed) == others


def test_an_entry_that_no_longer_differs_is_reported(tmp_path):
    """An entry whose operator was compared without that difference, or does not exist, is stale."""
    allowed = entries(tmp_path, ENTRY)
    finding = Finding("gelu", "float32", "forward", "values: 1 of 2 elements differ", error=0.001)

    assert stale([finding], allowed, {("gelu", "float32")}, {"gelu"}) == []
    assert stale([], allowed, {("relu", "float32")}, {"gelu"}) == []
    assert "no longer differs" in stale([], allowed, {("gelu", "float32")}, {"gelu"})[0]
    assert "no samples" in stale([finding], allowed, {("relu", "float32")}, {"relu"})[0]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('cause = "emulator"', "cause is one of"),
        ('checks = ["sideways"]', "checks are"),
        ('reason = " "', "reason is a sentence"),
        ('message = "("', "unterminated"),
        ('mesage = "x"', "mesage"),
    ],
)
def test_an_entry_that_cannot_be_meant_is_refused(tmp_path, line, problem):
    """An entry with an unknown field, cause or check, or without a reason, is refused with its place."""
    field = line.split(" ")[0]
    text = "\n".join([*(old for old in ENTRY.splitlines() if not old.startswith(field)), line])

    with pytest.raises(InvalidList, match=r"entry 1 \(gelu\)") as refusal:
        entries(tmp_path, text)

    assert problem in str(refusal.value)

"""Wrong numbers of each kind are caught; what honest hardware may do is accepted."""

import math

import pytest
from cpu_torch import torch

from fixtures import conformance, numerics
from fixtures.conformance import judge_curve, judge_tensor, judge_tensors
from fixtures.tolerances import CURVE, EPSILON, TENSOR

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
PRECISIONS = list(DTYPES)


def product(precision: str, rows: int = 64, inner: int = 128):
    """(truth, peer, other): a matrix product in float64, in the precision, and in it with another order of
    summation.
    """
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((rows, inner), (inner, rows)))
    low_a, low_b = a.to(DTYPES[precision]), b.to(DTYPES[precision])
    # The truth is that of the rounded inputs: rounding them is the caller's, not the operator's.
    truth = low_a.double() @ low_b.double()
    halves = [low_a[:, k].float() @ low_b[k].float() for k in (slice(0, inner // 2), slice(inner // 2, None))]
    return truth, low_a @ low_b, (halves[1] + halves[0]).to(DTYPES[precision])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_honest_rounding(precision):
    """Another order of summation, and the peer itself, conform."""
    truth, peer, other = product(precision)

    assert judge_tensor("x", peer, truth, peer).passed
    assert judge_tensor("x", other, truth, peer).passed
    assert 0 < judge_tensor("x", other, truth, peer).headroom < 1


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_ulp_on_every_element(precision):
    """Random errors of one unit in the last place everywhere conform."""
    truth, peer, _ = product(precision)
    signs = torch.randint(0, 2, truth.shape, generator=torch.Generator().manual_seed(2)) * 2 - 1

    noisy = (truth * (1 + signs * EPSILON[precision])).to(DTYPES[precision])

    assert judge_tensor("x", noisy, truth, peer).passed


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_one_percent(precision):
    """A tensor that is 1 % too large does not conform."""
    truth, peer, _ = product(precision)

    judgement = judge_tensor("x", peer * 1.01, truth, peer)

    assert not judgement.passed
    assert judgement.headroom > 2


def test_two_percent_in_bf16():
    """In bf16, whose rounding is up to 0.4 %, 2 % of scale do not conform."""
    truth, peer, _ = product("bf16")

    assert not judge_tensor("x", (truth * 1.02).to(torch.bfloat16), truth, peer).passed


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_bad_element(precision):
    """One wrong element among thousands does not conform, however many are right."""
    truth, peer, _ = product(precision)
    bad = peer.clone()
    bad[5, 7] += 0.5 * truth.abs().max()

    judgement = judge_tensor("x", bad, truth, peer)

    assert not judgement.passed
    assert judgement.statistic == "max error"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_truncation(precision):
    """Rounding towards zero by several units in the last place, each of them small, is noticed as a bias."""
    truth, peer, _ = product(precision)
    steps = 8 if precision == "fp32" else 3

    truncated = (truth * (1 - steps * 4 * EPSILON[precision])).to(DTYPES[precision])

    assert not judge_tensor("x", truncated, truth, peer).passed


def test_a_bias_by_chance():
    """Errors as large as the peer's, whose projection on the truth is what chance gives, conform where the peer's
    happens to be none; errors of that size that all point one way do not.
    """
    truth = torch.linspace(1, 2, 128, dtype=torch.float64)
    size = 400 * EPSILON["fp32"]
    alternating = size * torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(64)
    aligned = alternating.clone()
    aligned[:24] = size  # 12 of 128 more to one side: a projection of one to two standard deviations, beyond the floor
    peer = (truth + alternating).float()

    assert judge_tensor("x", (truth + aligned).float(), truth, peer).passed
    assert judge_tensor("x", (truth + size).float(), truth, peer).statistic == "bias"
    assert not judge_tensor("x", (truth + size).float(), truth, peer).passed


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_nan_or_infinity_too_many(precision, value):
    """A single NaN or infinity where the CPU has none does not conform."""
    truth, peer, _ = product(precision)
    bad = peer.clone()
    bad[1, 2] = value

    judgement = judge_tensor("x", bad, truth, peer)

    assert not judgement.passed
    assert "1 " in judgement.found
    assert judgement.statistic == "NaN and infinity"


def test_a_saturated_overflow():
    """65504 where the CPU has infinity does not conform."""
    truth = torch.tensor([1.0, 1e6], dtype=torch.float64)
    peer = truth.half()

    assert judge_tensor("x", peer.clone(), truth, peer).passed
    assert not judge_tensor("x", torch.tensor([1.0, 65504.0], dtype=torch.float16), truth, peer).passed


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_peer_that_computed_something_else(precision):
    """A peer four times too large licenses nothing, not even what agrees with it."""
    truth, peer, _ = product(precision)

    judgement = judge_tensor("x", 4 * peer, truth, 4 * peer)

    assert not judgement.passed
    assert "reference" in judgement.expected


def test_zeros():
    """A tensor of zeros, which is what an operator that did nothing leaves, does not conform; true zeros do."""
    truth, peer, _ = product("fp32")

    assert not judge_tensor("x", torch.zeros_like(peer), truth, peer).passed
    zero = torch.zeros(3)
    assert judge_tensor("x", zero, zero.double(), zero).passed
    assert not judge_tensor("x", zero + 1e-3, zero.double(), zero).passed


@pytest.mark.parametrize("wrong", [torch.zeros(64, 63), torch.zeros(64, 64, dtype=torch.float64)])
def test_shape_and_dtype(wrong):
    """Another shape or dtype does not conform."""
    truth, peer, _ = product("fp32")

    judgement = judge_tensor("x", wrong, truth, peer)

    assert not judgement.passed
    assert judgement.found == f"{tuple(wrong.shape)}, {wrong.dtype}"


def test_integers_have_no_tolerance():
    """An integer tensor is refused: it is to be compared exactly."""
    whole = torch.ones(3, dtype=torch.int64)

    with pytest.raises(ValueError, match="compare integers and bools exactly"):
        judge_tensor("x", whole, whole, whole)


def test_an_empty_tensor_conforms():
    """A tensor without elements conforms to one without elements."""
    empty = torch.zeros(0, 3)

    assert judge_tensor("x", empty, empty.double(), empty).passed


def gradients(dtype) -> dict[str, torch.Tensor]:
    """Gradients of a small network with a layer norm and attention, in a dtype; the key's bias is zero in exact
    arithmetic.
    """
    torch.manual_seed(3)
    layer = torch.nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True).to(dtype)
    x = torch.randn(8, 16, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).to(dtype)
    layer(x).square().mul(x + 1).sum().backward()
    return {name: parameter.grad for name, parameter in layer.named_parameters()}


@pytest.fixture(scope="module")
def three():
    """Gradients as truth, as peer, and as measured."""
    return gradients(torch.float64), gradients(torch.float32), gradients(torch.float32)


def test_honest_gradients(three):
    """Gradients of the same step in the same precision conform, those that cancel to zero included."""
    truth, peer, measured = three

    assert all(judgement.passed for judgement in judge_tensors(measured, truth, peer))


def test_each_scaled_gradient_is_caught(three):
    """1 % on any one gradient of a step does not conform, and that gradient is named."""
    truth, peer, measured = three
    for name in measured:
        wrong = {**measured, name: measured[name] * 1.01}
        failed = [judgement.name for judgement in judge_tensors(wrong, truth, peer) if not judgement.passed]
        assert failed == [name]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("size", [1.0, 1e2])
def test_gradients_of_every_size_are_looked_at(precision, size):
    """An error in a gradient is caught though the others of the step are a thousand times larger."""
    truth, peer, _ = product(precision)
    scaled = [{"large": 1e3 * tensor, "small": size * tensor} for tensor in (peer.float(), truth, peer.float())]
    wrong = {**scaled[0], "small": scaled[0]["small"] * 1.03}

    assert all(judgement.passed for judgement in judge_tensors(*scaled, precision))
    assert [j.name for j in judge_tensors(wrong, *scaled[1:], precision) if not j.passed] == ["small"]


def test_what_cancels_may_differ():
    """A gradient that is zero in exact arithmetic may be any rounding error of what cancels, but no more."""
    truth, peer, _ = product("fp32")
    rest = 1e-3 * EPSILON["fp32"] * truth.square().mean().sqrt().item()
    noise = torch.randn(64, generator=torch.Generator().manual_seed(6))
    others = [{"large": peer}, {"large": truth}, {"large": peer}]
    zeros = [{"key bias": part} for part in (rest * noise, torch.zeros(64, dtype=torch.float64), -rest * noise / 5)]
    three = [{**other, **zero} for other, zero in zip(others, zeros, strict=True)]

    assert all(judgement.passed for judgement in judge_tensors(*three))
    three[0]["key bias"] = 1000 * rest * noise
    assert not all(judgement.passed for judgement in judge_tensors(*three))


def test_a_missing_gradient(three):
    """A gradient that is missing, or one too many, does not conform."""
    truth, peer, measured = three
    name = next(iter(measured))
    fewer = {key: value for key, value in measured.items() if key != name}

    (judgement,) = judge_tensors(fewer, truth, peer)

    assert not judgement.passed
    assert name in judgement.found


def curve(steps: int = 20, skip: int | None = None, scale: float = 1.0) -> list[float]:
    """Losses of a logistic regression trained by gradient descent in float64; one step may be left out."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(64, 8, generator=generator, dtype=torch.float64)
    y = (x[:, 0] > 0).double()
    weight, losses = torch.zeros(8, dtype=torch.float64), []
    for step in range(steps):
        p = torch.sigmoid(x @ weight)
        losses.append(torch.nn.functional.binary_cross_entropy(p, y).item())
        gradient = x.T @ (p - y) / len(y) * scale
        weight = weight - gradient * (step != skip)
    return losses


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_equal_curve(precision):
    """An equal loss curve conforms with headroom 0, one that is off by rounding conforms."""
    truth = curve()
    noisy = [value * (1 + (-1) ** step * EPSILON[precision] / 16) for step, value in enumerate(truth)]

    assert [judgement.headroom for judgement in judge_curve("loss", truth, truth, precision)] == [0, 0, 0, 0]
    assert all(judgement.passed for judgement in judge_curve("loss", noisy, truth, precision))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("skip", [0, 1, 5])
def test_a_dropped_step(precision, skip):
    """A loss curve in which one early optimizer step was dropped does not conform."""
    assert not all(judgement.passed for judgement in judge_curve("loss", curve(skip=skip), curve(), precision))


def test_a_dropped_first_step_is_the_second_loss():
    """Where the first optimizer step is wrong, the loss after it is among what does not conform, the first loss is
    not.
    """
    failed = {
        judgement.statistic
        for judgement in judge_curve("loss", curve(scale=1.1), curve(), "fp32")
        if not judgement.passed
    }

    assert "second relative difference" in failed
    assert "first relative difference" not in failed


@pytest.mark.parametrize(
    "wrong",
    [[], curve()[:-1], [math.nan, *curve()[1:]], [*curve()[:-1], math.nan]],
    ids=["empty", "short", "nan", "nan at the end"],
)
def test_curves_that_are_none(wrong):
    """An empty or shorter curve, and one with a NaN, do not conform."""
    assert not all(judgement.passed for judgement in judge_curve("loss", wrong, curve(), "fp32"))


def test_a_nan_is_below_nothing():
    """A NaN never conforms, whatever the limit."""
    assert not conformance.below("x", "value", math.nan, 1.0, "test").passed
    assert not conformance.below("x", "value", math.nan, math.inf, "test").passed


def test_errors_of_a_known_tensor():
    """Errors are what one computes by hand."""
    errors = numerics.errors(torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))

    assert errors.max == 1.0
    assert errors.mean == pytest.approx(1 / 3)
    assert errors.rms == pytest.approx(math.sqrt(1 / 3))
    assert errors.bias == pytest.approx(4 / 21)
    assert errors.worst == 2


def test_every_limit_has_a_source():
    """Each row of the tables says where it comes from, and each precision has one."""
    assert {"fp32", "hf32", "fp16", "bf16"} == set(TENSOR)
    assert {"fp32", "fp16", "bf16"} <= set(CURVE)
    for row in (*TENSOR.values(), *CURVE.values()):
        assert len(row.source) > 20

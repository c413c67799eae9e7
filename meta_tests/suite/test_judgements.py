"""The numeric policy at its limits: what just conforms and what just does not, and what is said of it."""

import math

import pytest
from cpu_torch import torch

from fixtures import numerics
from fixtures.conformance import (
    NO_MEASURE,
    Judgement,
    below,
    differs,
    judge_curve,
    judge_tensor,
    judge_tensors,
    precision_of,
)
from fixtures.numerics import CurveErrors, Scale
from fixtures.tolerances import CURVE, EPSILON, STEP, TENSOR

ULP, LIMIT = EPSILON["fp32"], TENSOR["fp32"]
ONES = torch.ones(1024, dtype=torch.float64)
SIGNS = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(512)
FIRST = torch.zeros(1024, dtype=torch.float64).index_fill(0, torch.tensor([0]), 1.0)


@pytest.mark.parametrize(
    ("measured", "limit", "headroom", "passed"),
    [
        (0.5, 1.0, 0.5, True),
        (1.0, 1.0, 1.0, True),
        (1.25, 1.0, 1.25, False),
        (0.0, 0.0, 0.0, True),
        (1e-9, 0.0, math.inf, False),
        (math.nan, 1.0, math.inf, False),
        (math.inf, 2.0, math.inf, False),
    ],
)
def test_a_value_below_its_limit(measured, limit, headroom, passed):
    """The limit itself conforms; where nothing is allowed, nothing but zero does."""
    judgement = below("loss", "error", measured, limit, "a standard", size=3.0)

    assert (judgement.headroom, judgement.passed, judgement.limit) == (headroom, passed, limit)
    assert (judgement.name, judgement.statistic, judgement.details) == ("loss", "error", {"size": 3.0})
    assert judgement.measured is measured


def test_what_is_said_of_a_value():
    """Expected and found have three digits; a difference has no numbers and never conforms."""
    judgement = below("loss", "error", 0.123456, 0.04321, "a standard")

    assert judgement.expected == "loss: error <= 0.0432 (a standard)"
    assert judgement.found == "0.123, 2.86 times the limit"
    assert differs("loss", "steps", "3", "2") == Judgement("loss", "steps", math.inf, "loss: steps 3", "2")
    assert not differs("loss", "steps", "3", "2").passed


@pytest.mark.parametrize(
    ("error", "peer", "floor", "statistic"),
    [
        # Where the peer is exact, the floor: 32 units in the last place.
        (31 * ULP * SIGNS, 0 * SIGNS, 0.0, None),
        (34 * ULP * SIGNS, 0 * SIGNS, 0.0, "max error"),
        # ... of values of at least the size that cancelled.
        (300 * ULP * SIGNS, 0 * SIGNS, 10.0, None),
        (330 * ULP * SIGNS, 0 * SIGNS, 10.0, "max error"),
        # Else multiples of the peer's error: the largest 10 times, mean and rms twice.
        (1.9e-4 * SIGNS, 1e-4 * SIGNS, 0.0, None),
        (9.8e-4 * FIRST, 1e-4 * SIGNS, 0.0, None),
        (1.03e-3 * FIRST, 1e-4 * SIGNS, 0.0, "max error"),
        (2.5e-5 * SIGNS, 1e-5 * SIGNS + 2e-3 * FIRST, 0.0, "mean error"),
        (2.05e-4 * SIGNS * torch.linspace(0, math.sqrt(3), 1024), 1e-4 * SIGNS, 0.0, "rms error"),
        # Nothing systematic: 16 units in the last place, and only where values do not cancel.
        (15 * ULP * ONES, 0 * SIGNS, 0.0, None),
        (18 * ULP * ONES, 0 * SIGNS, 0.0, "bias"),
        (18 * ULP * ONES, 0 * SIGNS, 1.0, None),
        (-18 * ULP * ONES, 0 * SIGNS, 0.0, "bias"),
        # ... ten times the peer's bias, whichever way that points ...
        (9.5e-5 * ONES, -1e-5 * ONES - 9e-5 * SIGNS, 0.0, None),
        (1.08e-4 * ONES, -1e-5 * ONES - 9e-5 * SIGNS, 0.0, "bias"),
    ],
)
def test_the_limits_of_a_tensor(error, peer, floor, statistic):
    """What is within every limit conforms; what is just beyond one does not, by that statistic."""
    judgement = judge_tensor("x", (ONES + error).float(), ONES, (ONES + peer).float(), scale_floor=floor)

    assert judgement.passed is (statistic is None), judgement
    assert statistic in (None, judgement.statistic)
    assert judgement.headroom == pytest.approx(judgement.measured / judgement.limit)
    assert judgement.headroom > 0.8 if statistic is None and floor != 1.0 else True


@pytest.mark.parametrize(("error", "passed"), [(0.97e-3, True), (1.03e-3, False)])
def test_a_peer_beyond_its_ceiling_measures_nothing(error, passed):
    """A peer whose rms error is more than a thousandth of the truth is no measure, and that is what is said."""
    same = (ONES + error * SIGNS).float()

    judgement = judge_tensor("x", same, ONES, same)

    assert judgement.passed is passed
    if not passed:
        assert judgement.statistic == NO_MEASURE
        assert judgement.expected == f"x: {NO_MEASURE} within 0.001 (rms) of the truth, to be a measure of rounding"
        assert judgement.found == "its rms error is 0.00103"
        assert judge_tensor("x", same, ONES, same, scale_floor=1.1).passed


def test_overflow_that_rounding_explains():
    """Near the largest number of a precision infinity conforms where the CPU in that precision has it, and so does the
    number itself, which is closer to the truth.
    """
    truth = torch.tensor([1.0, 65000.0], dtype=torch.float64)
    number, infinity = truth.half(), torch.tensor([1.0, math.inf]).half()

    assert judge_tensor("x", infinity, truth, infinity).passed
    assert judge_tensor("x", number, truth, infinity).passed
    wrong = judge_tensor("x", infinity, truth, number)
    assert (wrong.passed, wrong.expected) == (False, "x: NaN and infinity where the CPU has them")
    assert wrong.found == "1 +inf where 0 are expected (first difference at flat index 1)"
    beyond = torch.tensor([1.0, 65530.0], dtype=torch.float64)  # rounds to infinity
    assert judge_tensor("x", infinity, beyond, torch.tensor([1.0, 65504.0]).half()).passed


def test_small_values_have_small_limits():
    """A tensor by itself is judged by its own size, however small that is."""
    assert judge_tensor("x", (1e-6 * (ONES + 31 * ULP * SIGNS)).float(), 1e-6 * ONES, (1e-6 * ONES).float()).passed
    assert not judge_tensor("x", (1e-6 * (ONES + 36 * ULP * SIGNS)).float(), 1e-6 * ONES, (1e-6 * ONES).float()).passed


def test_a_step_without_tensors():
    """There is nothing to judge, which the caller has to notice."""
    assert judge_tensors({}, {}, {}) == []


def test_what_is_recorded_of_a_tensor():
    """Relative rms error, bias, cosine and size, and the limit's source."""
    truth = 2 * ONES

    judgement = judge_tensor("x", (truth * (1 + 1e-5)).float(), truth, (truth * (1 + 1e-5)).float())

    assert judgement.details["relative_rms"] == pytest.approx(1e-5, rel=0.02)
    assert judgement.details["bias"] == pytest.approx(1e-5, rel=0.02)
    assert judgement.details["cosine"] == pytest.approx(1.0)
    assert judgement.details["size"] == 2.0
    assert LIMIT.source in judgement.expected
    zeros = torch.zeros(4)
    assert judge_tensor("x", zeros, zeros.double(), zeros).details["relative_rms"] == 0.0


def test_another_shape_or_dtype_in_words():
    """Both are named, as expected and as found."""
    judgement = judge_tensor("x", torch.ones(2), torch.ones(3).double(), torch.ones(3).half())

    assert judgement.expected == "x: shape and dtype (3,), torch.float16"
    assert judgement.found == "(2,), torch.float32"


def test_the_precision_of_what_was_computed():
    """A float32 result of a float16 product is judged as float16; the names of precisions are those of the table."""
    measured = (ONES + 3 * EPSILON["fp16"] * SIGNS).float()

    assert judge_tensor("x", measured, ONES, ONES.float(), "fp16").passed
    assert not judge_tensor("x", measured, ONES, ONES.float()).passed
    dtypes = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    assert [precision_of(torch.ones(1, dtype=dtype)) for dtype in dtypes] == ["fp64", "fp32", "fp16", "bf16"]


def test_tensors_of_a_step_in_words():
    """Tensors are named with what they are; names on one side alone are listed in order."""
    one, other = {"b": ONES.float(), "c": ONES.float()}, {"b": ONES, "a": ONES}

    (judgement,) = judge_tensors(one, other, other, prefix="gradient")

    assert (judgement.name, judgement.expected) == ("gradients", "gradients: names as on the CPU")
    assert judgement.found == "only in one of both: a, c"
    named = judge_tensors({"b": ONES.float()}, {"b": ONES}, {"b": ONES.float()}, prefix="gradient")
    assert [judgement.name for judgement in named] == ["gradient b"]


@pytest.mark.parametrize(("part", "passed"), [(0.97, True), (1.05, False)])
def test_the_floor_of_a_step(part, passed):
    """What cancels may be off by the floor's units in the last place of a share of the rms over the whole step."""
    common = STEP["fp32"].cancelled * math.sqrt((9.0 * 1024 + 0.0) / (1024 + 64))
    rest = (part * STEP["fp32"].floor_ulps * ULP * common * SIGNS[:64]).float()
    zeros = torch.zeros(64, dtype=torch.float64)

    large, small = judge_tensors(
        {"large": 3 * ONES.float(), "zero": rest},
        {"large": 3 * ONES, "zero": zeros},
        {"large": 3 * ONES.float(), "zero": zeros.float()},
    )

    assert (large.passed, small.passed) == (True, passed)


def test_limits_of_operators_and_of_steps():
    """A step has a higher floor than an operator; a test may ask for the latter, and for another share that cancels."""
    off = {"x": (1 + 100 * ULP * SIGNS).float()}
    zeros = {"x": torch.zeros(1024, dtype=torch.float64), "y": ONES}
    rest = {"x": (100 * ULP * SIGNS).float(), "y": ONES.float()}
    peer = {"x": zeros["x"].float(), "y": ONES.float()}

    assert judge_tensors(off, {"x": ONES}, {"x": ONES.float()})[0].passed
    assert not judge_tensors(off, {"x": ONES}, {"x": ONES.float()}, limits=TENSOR)[0].passed
    assert not judge_tensors(rest, zeros, peer)[0].passed
    assert judge_tensors(rest, zeros, peer, cancelled=1.0)[0].passed


def test_losses_in_which_values_cancel():
    """A loss is measured by the size of what cancels in it, where that is larger."""
    off, truth = [0.01 + 2e-6], [0.01]

    assert not judge_curve("loss", off, truth, "fp32")[0].passed
    assert judge_curve("loss", off, truth, "fp32", scale_floor=1.0)[0].passed
    assert not judge_curve("loss", [0.01 + 2e-5], truth, "fp32", scale_floor=1.0)[0].passed
    assert judge_curve("loss", [10.0], [10.0001], "fp32", scale_floor=1.0)[0].measured == pytest.approx(1e-5, rel=0.01)


@pytest.mark.parametrize("precision", list(CURVE))
def test_the_limits_of_a_curve(precision):
    """First, second, mean and signed mean difference have the limits of the table; what is just beyond one fails."""
    limit, truth = CURVE[precision], [2.0] * 10
    parts = {"first": limit.first, "second": limit.second, "mean": limit.mean, "signed mean": limit.signed_mean}

    judgements = judge_curve("loss", truth, truth, precision)

    assert [j.statistic for j in judgements] == [f"{part} relative difference" for part in parts]
    assert [j.limit for j in judgements] == list(parts.values())
    assert all(j.name == "loss" and j.expected.endswith(f"({limit.source})") for j in judgements)
    for factor, passed in ((0.98, True), (1.02, False)):
        second = judge_curve("loss", [2.0, 2 * (1 + factor * limit.second), *truth[2:]], truth, precision)
        assert second[1].passed is passed
        first = judge_curve("loss", [2 * (1 - factor * limit.first), *truth[1:]], truth, precision)
        assert [j.passed for j in first] == [passed, True, True, True]
        even = judge_curve("loss", [2 * (1 + factor * limit.mean * (-1) ** i) for i in range(10)], truth, precision)
        assert (even[2].passed, even[3].passed) == (passed, True)


def test_curves_of_different_lengths_in_words():
    """How many steps were expected, and how many there are; two empty curves are none."""
    (judgement,) = judge_curve("loss", [1.0], [1.0, 2.0], "fp32")

    assert (judgement.expected, judgement.found) == ("loss: steps 2", "1")
    assert [j.passed for j in judge_curve("loss", [], [], "fp32")] == [False]


@pytest.mark.parametrize(
    ("measured", "truth", "errors"),
    [
        ([2.2, 4.0], [2.0, 4.0], CurveErrors(0.1, 0.0, 0.05, 0.05)),
        ([1.8, 4.4, 8.0, 8.0], [2.0, 4.0, 8.0, 8.0], CurveErrors(0.1, 0.1, 0.05, 0.0)),
        ([-1.0], [-2.0], CurveErrors(0.5, 0.0, 0.5, 0.5)),
        ([0.0, 1.0], [0.0, 0.0], CurveErrors(0.0, math.inf, math.inf, math.inf)),
    ],
)
def test_differences_of_curves(measured, truth, errors):
    """Relative differences per step; of nothing where there should be nothing."""
    found = numerics.curve_errors(measured, truth)

    assert [found.first, found.second, found.mean, found.signed_mean] == pytest.approx(
        [errors.first, errors.second, errors.mean, errors.signed_mean], abs=1e-12
    )


def test_curves_of_two_lengths_are_refused():
    """A curve that ends early is not compared up to its end."""
    with pytest.raises(ValueError, match="longer"):
        numerics.curve_errors([1.0], [1.0, 2.0])


def test_the_size_of_a_tensor():
    """Largest, mean and root mean square of what is finite."""
    assert numerics.scale(torch.tensor([[-4.0, math.inf], [0.0, math.nan]])) == Scale(4.0, 2.0, math.sqrt(8.0))
    assert numerics.scale(torch.tensor([math.nan])) == Scale(0.0, 0.0, 0.0)


class OnACard(torch.Tensor):
    """A tensor of a card that has no float64."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.to and args[1:] == ("cpu",):
            return args[0].as_subclass(torch.Tensor)
        assert func is not torch.Tensor.to, "the card has no float64"
        return super().__torch_function__(func, types, args, kwargs or {})


def test_a_card_without_float64():
    """Values are brought to the CPU before they are widened."""
    assert numerics.scale(torch.tensor([3.0, -4.0]).as_subclass(OnACard)) == Scale(4.0, 3.5, math.sqrt(12.5))


def test_errors_of_special_tensors():
    """What is not finite in either is left out; nothing differs from nothing."""
    errors = numerics.errors(torch.tensor([3.0, math.nan, 1.0]), torch.tensor([3.0, 4.0, math.inf]))

    assert (errors.max, errors.mean, errors.rms, errors.bias, errors.cosine) == (0.0, 0.0, 0.0, 0.0, 1.0)
    assert numerics.errors(torch.empty(0), torch.empty(0)) == numerics.Errors(0.0, 0.0, 0.0, 0.0, 1.0, 0)
    against_zero = numerics.errors(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2))
    assert (against_zero.bias, against_zero.cosine, against_zero.worst) == (0.0, 0.0, 1)
    assert numerics.errors(torch.zeros(2), torch.zeros(2)).cosine == 1.0
    opposite = numerics.errors(torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 2.0]))
    assert (opposite.bias, opposite.cosine) == pytest.approx((-2.0, -1.0))


@pytest.mark.parametrize(
    ("measured", "truth", "said"),
    [
        ([1.0, math.nan], [2.0, math.nan], None),
        ([1.0, math.nan], [1.0, 1.0], "1 NaN where 0 are expected (first difference at flat index 1)"),
        ([1.0, 1.0], [math.inf, math.inf], "0 +inf where 2 are expected (first difference at flat index 0)"),
        ([1.0, -math.inf], [1.0, math.inf], "0 +inf where 1 are expected (first difference at flat index 1)"),
        ([-math.inf, 1.0], [0.0, 1.0], "1 -inf where 0 are expected (first difference at flat index 0)"),
    ],
)
def test_patterns_of_what_is_not_finite(measured, truth, said):
    """NaN and infinities of either sign must be where they belong; how many and where is said."""
    assert numerics.pattern_difference(torch.tensor(measured), torch.tensor(truth)) == said

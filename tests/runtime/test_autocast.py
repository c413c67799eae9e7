"""Autocast on the card: which operator computes in which precision, and where autocast begins and ends."""

import pytest

from fixtures.chips import needs
from fixtures.requirement import requirement
from fixtures.workloads.autocast import DTYPES, Autocast

pytestmark = [pytest.mark.single_npu, pytest.mark.runtime]

PRECISIONS = pytest.mark.parametrize(
    "precision", [pytest.param("fp16", marks=pytest.mark.fp16), pytest.param("bf16", marks=pytest.mark.bf16)]
)


@pytest.fixture
def follows(npu, train, reference, evidence):
    """follows(policy, precision): dtype and value of every operator are those that the policy gives on the CPU."""

    def judge(policy: str, precision: str) -> None:
        __tracebackhide__ = True
        needs(precision, npu)
        workload = Autocast(policy, precision)
        measured = train(workload).details
        truth, peer = reference(workload, "float64").details, reference(workload, DTYPES[precision]).details
        evidence.check_equal(
            "dtypes of the results",
            {name: str(tensor.dtype) for name, tensor in measured.items()},
            {name: str(tensor.dtype) for name, tensor in peer.items()},
        )
        evidence.check_tensors("", measured, truth, peer)

    return judge


@pytest.fixture
def layer(npu):
    """A float32 linear layer on the card and an input for it, 4 x 16."""
    import torch

    torch.manual_seed(0)
    return torch.nn.Linear(16, 8).to("npu"), torch.randn(4, 16).to("npu")


@PRECISIONS
@requirement("runtime/autocast-half", level="core")
def test_products_compute_in_half_precision(follows, precision):
    """Under autocast matrix products, convolutions and attention of float32 inputs compute in the lower precision."""
    follows("half", precision)


@PRECISIONS
@requirement("runtime/autocast-float32", level="core")
def test_delicate_operators_compute_in_float32(follows, precision):
    """Under autocast softmax, normalisation, losses, powers, logarithms and sums of half inputs compute in float32."""
    follows("float32", precision)


@PRECISIONS
@requirement("runtime/autocast-widest", level="core")
def test_mixed_inputs_compute_in_the_widest(follows, precision):
    """Under autocast operators of half and float32 inputs that promote compute in float32."""
    follows("widest", precision)


@PRECISIONS
@requirement("runtime/autocast-unlisted", level="core")
def test_other_operators_keep_the_dtype(follows, precision):
    """Under autocast operators without a rule compute in the dtype of their inputs."""
    follows("unlisted", precision)


@pytest.mark.fp16
@requirement("runtime/autocast-unsafe-loss", level="extended")
def test_unsafe_loss_is_refused(npu, evidence):
    """Under autocast binary_cross_entropy is refused as on CUDA, with the advice to take the one with logits."""
    import torch

    values = torch.full((4,), 0.5, device="npu")

    with torch.autocast("npu"), pytest.raises(RuntimeError, match="unsafe to autocast"):
        torch.nn.functional.binary_cross_entropy(values, values)


@pytest.mark.fp16
@requirement("runtime/autocast-region", level="core")
def test_autocast_holds_in_its_region_alone(layer, evidence):
    """Autocast holds inside its region, not where it is disabled within, and not after an exception has left it."""
    import torch

    linear, x = layer
    dtypes = {}
    with torch.autocast("npu", torch.float16):
        dtypes["inside"] = linear(x).dtype
        with torch.autocast("npu", enabled=False):
            dtypes["disabled within"] = linear(x).dtype
            with torch.autocast("npu", torch.float16):
                dtypes["enabled within"] = linear(x).dtype
        dtypes["inside again"] = linear(x).dtype
        with torch.autocast("cpu", torch.bfloat16):
            dtypes["under the CPU's"] = linear(x).dtype
    with pytest.raises(KeyError), torch.autocast("npu", torch.float16):
        raise KeyError("x")
    dtypes["after an exception"] = linear(x).dtype

    half, full = torch.float16, torch.float32
    expected = {"inside": half, "disabled within": full, "enabled within": half, "inside again": half}
    evidence.check_equal("dtypes", dtypes, {**expected, "under the CPU's": half, "after an exception": full})
    evidence.check_equal("enabled", torch.is_autocast_enabled("npu"), False)


@pytest.mark.fp16
@requirement("runtime/autocast-interfaces", level="core")
def test_interfaces_of_autocast_agree(layer, evidence):
    """The context managers of torch and torch.npu and the decorator autocast to float16 by default, with equal bits."""
    import torch

    linear, x = layer
    decorated = torch.autocast("npu")(lambda: linear(x))
    explicit = torch.nn.functional.linear(*_halves(x, linear.weight, linear.bias))
    with torch.autocast("npu"):
        plain = linear(x)
    with torch.npu.amp.autocast():
        of_npu = linear(x)

    evidence.check_equal("torch.autocast", plain, explicit)
    evidence.check_equal("torch.npu.amp.autocast", of_npu, explicit)
    evidence.check_equal("decorator", decorated(), explicit)


@pytest.mark.fp16
@requirement("runtime/autocast-cache", level="core")
def test_cached_casts_follow_the_weights(layer, evidence):
    """Within a region a weight is cast once for all its uses, unless caching is off; a new region sees new weights."""
    import torch

    linear, x = layer

    def casts(cache: bool) -> int:
        with torch.autocast("npu", torch.float16, cache_enabled=cache):
            outputs = linear(x), linear(x)
        # Both uses share the node of the graph that casts the weight where the cast was cached.
        return len({_cast_of(linear.weight, output.grad_fn) for output in outputs})

    evidence.check_equal("casts of the weight with and without cache", [casts(True), casts(False)], [1, 2])
    with torch.no_grad():
        before = _under_autocast(linear, x)
        linear.weight.mul_(2)
        linear.bias.mul_(2)
        after = _under_autocast(linear, x)
    evidence.check_equal("output after the weights doubled", after, before * 2)


@pytest.mark.fp16
@requirement("runtime/autocast-backward", level="core")
def test_backward_outside_the_region(layer, evidence):
    """A backward pass outside of the region gives float32 gradients with the bits of explicit casts."""
    import torch

    linear, x = layer
    x.requires_grad_()
    wanted = [x, linear.weight, linear.bias]

    measured = torch.autograd.grad(_under_autocast(linear, x).float().square().sum(), wanted)

    halves = [half.requires_grad_() for half in _halves(*wanted)]
    explicit = torch.nn.functional.linear(*halves)
    expected = torch.autograd.grad(explicit.float().square().sum(), halves)
    for name, gradient, other in zip(("input", "weight", "bias"), measured, expected, strict=True):
        evidence.check_equal(f"dtype of the gradient of the {name}", gradient.dtype, torch.float32)
        evidence.check_equal(f"gradient of the {name}", gradient.cpu(), other.cpu().float())


@pytest.mark.fp16
@requirement("runtime/autocast-custom-function", level="core")
def test_custom_functions_cast_as_they_say(layer, evidence):
    """A custom autograd Function gets its inputs as custom_fwd says, and its backward the same autocast state."""
    import torch

    seen = {}

    class Product(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type="npu", cast_inputs=torch.float32)
        def forward(ctx, a, b):
            seen["forward"] = [a.dtype, torch.is_autocast_enabled("npu")]
            ctx.save_for_backward(a, b)
            return a @ b

        @staticmethod
        @torch.amp.custom_bwd(device_type="npu")
        def backward(ctx, gradient):
            a, b = ctx.saved_tensors
            seen["backward"] = [gradient.dtype, torch.is_autocast_enabled("npu")]
            return gradient @ b.mT, a.mT @ gradient

    _, x = layer
    half = x.half().requires_grad_()

    with torch.autocast("npu", torch.float16):
        output = Product.apply(half, half.mT)
    output.sum().backward()

    evidence.check_equal("what it saw", seen, {"forward": [torch.float32, False], "backward": [torch.float32, False]})
    evidence.check_equal("dtype of the gradient", half.grad.dtype, torch.float16)
    # On the CPU: a card is not to be the judge of its own casts.
    peer, truth = (wide @ wide.mT for wide in (half.detach().cpu().float(), half.detach().cpu().double()))
    evidence.check_tensor("output", output.detach(), truth, peer)


def _halves(*tensors) -> list:
    """The tensors in float16, cast on the CPU: a card is not to be the judge of its own casts."""
    return [tensor.detach().cpu().half().to("npu") for tensor in tensors]


def _under_autocast(linear, x):
    import torch

    with torch.autocast("npu", torch.float16):
        return linear(x)


def _cast_of(weight, node):
    """The node of the graph below ``node`` that leads to the weight and nowhere else: its cast. None without one."""
    following = [after for after, _ in node.next_functions if after is not None]
    if len(following) == 1 and getattr(following[0], "variable", None) is weight:
        return node
    return next((found for after in following if (found := _cast_of(weight, after)) is not None), None)

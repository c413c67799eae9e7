"""Core operators of torch on the card, forward and backward, against the exact result on the CPU.

The cases of each group are in fixtures/workloads/operators.py. An error must not exceed a small multiple of the CPU's
in the same precision; indices and integers must be equal.
"""

import pytest

from fixtures.chips import needs
from fixtures.requirement import requirement
from fixtures.tolerances import TENSOR
from fixtures.workloads.operators import DTYPES, Operators

pytestmark = [pytest.mark.single_npu, pytest.mark.runtime]

PRECISIONS = ["fp32", pytest.param("fp16", marks=pytest.mark.fp16), pytest.param("bf16", marks=pytest.mark.bf16)]


@pytest.fixture
def conforms(npu, train, reference, evidence):
    """conforms(group, precision, computed_in=None): computes the group on the card and judges every result."""

    def judge(group: str, precision: str = "fp32", computed_in: str | None = None) -> None:
        __tracebackhide__ = True
        needs(precision, npu)
        workload = Operators(group, precision)
        measured = train(workload).details
        truth, peer = reference(workload, "float64").details, reference(workload, DTYPES[precision]).details
        evidence.check_equal(f"{group}: integers and truth values", measured["exact"], peer["exact"])
        for kind in ("forward", "gradients"):
            evidence.check_tensors(
                f"{group}, {kind}:", measured[kind], truth[kind], peer[kind], computed_in, limits=TENSOR
            )

    return judge


@requirement("runtime/operators-matmul", level="core")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_matrix_products(conforms, precision):
    """Matrix products, transposed, batched, broadcast, of odd sizes and empty, are as exact as the CPU's."""
    conforms("matmul", precision)


@requirement("runtime/operators-einsum", level="core")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_einsum(conforms, precision):
    """Contractions by einsum, tensordot and kron are as exact as the CPU's."""
    conforms("einsum", precision)


@requirement("runtime/operators-softmax", level="core")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_softmax(conforms, precision):
    """Softmax and its kin, over any dimension, of extreme and of masked values, are as exact as the CPU's."""
    conforms("softmax", precision)


@requirement("runtime/operators-normalisation", level="core")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_normalisation(conforms, precision):
    """Layer, RMS, group and batch normalisation with their parameters' gradients are as exact as the CPU's."""
    conforms("normalisation", precision)


@requirement("runtime/operators-activations", level="core")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_activations(conforms, precision):
    """Activation functions, GELU's tanh form among them, are as exact as the CPU's."""
    conforms("activations", precision)


@requirement("runtime/operators-gelu", level="core")
def test_exact_gelu(conforms):
    """The exact GELU, by the error function, is as exact as the CPU's."""
    conforms("gelu")


@requirement("runtime/operators-losses", level="core")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_losses(conforms, precision):
    """Losses, cross entropy with ignored labels, smoothing and weights among them, are as exact as the CPU's."""
    conforms("losses", precision)


@requirement("runtime/operators-embedding", level="core")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_embedding(conforms, precision):
    """The gradient of an embedding adds up repeated rows and leaves out the padding row, as exact as the CPU's."""
    conforms("embedding", precision)


@requirement("runtime/operators-indexing", level="core")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_indexing(conforms, precision):
    """Indexing, gathering and scattering, with accumulation and with masks, are as exact as the CPU's."""
    conforms("indexing", precision)


@requirement("runtime/operators-reductions", level="core")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_reductions(conforms, precision):
    """Sums, running sums, norms, extremes and counts are as exact as the CPU's."""
    conforms("reductions", precision)


@requirement("runtime/operators-ordering", level="core")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_ordering(conforms, precision):
    """Sorting, topk, argmax and searching give the CPU's order, stable where a stable order is asked for."""
    conforms("ordering", precision)


@requirement("runtime/operators-convolution", level="core")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_convolution(conforms, precision):
    """Convolutions in one, two and three dimensions, transposed, grouped, and pooling are as exact as the CPU's."""
    import torch

    # For convolutions, unlike for matrix products, torch_npu allows HF32 unless it is told otherwise.
    hf32 = precision == "fp32" and torch.npu.conv.allow_hf32
    conforms("convolution", precision, "hf32" if hf32 else None)


@requirement("runtime/operators-interpolation", level="extended")
def test_interpolation(conforms):
    """Images are enlarged and shrunk as exactly as by the CPU."""
    conforms("interpolation")


@requirement("runtime/operators-linalg", level="core")
def test_linear_algebra(conforms):
    """Decompositions give back their matrix, and inverses, solutions and determinants are as exact as the CPU's."""
    conforms("linalg")


@requirement("runtime/operators-fft", level="extended")
def test_fourier_transforms(conforms):
    """Fourier transforms of real and complex signals are as exact as the CPU's."""
    conforms("fft")


@requirement("runtime/operators-integers", level="core")
def test_integer_arithmetic(conforms):
    """Arithmetic of int64 is exact, beyond 2^53 and for negative numbers, too."""
    conforms("integers")


@requirement("runtime/operators-layouts", level="core")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_layouts(conforms, precision):
    """Strided, expanded, transposed and overlapping inputs and vectors of any length give the CPU's results."""
    conforms("layouts", precision)


@requirement("runtime/operators-special-values", level="core")
def test_special_values(conforms):
    """NaN, infinities and signed zeros go through arithmetic and comparisons as IEEE 754 has it."""
    conforms("special")

"""Linear algebra and its gradients, also of matrices that are views. torch_npu computes most of it on the CPU."""

import pytest

from fixtures.requirement import requirement
from fixtures.tolerances import TENSOR
from fixtures.workloads.linear_algebra import LAYOUTS, LinearAlgebra

pytestmark = [pytest.mark.single_npu, pytest.mark.runtime]

DETERMINANTS = ("det", "slogdet", "logdet")


@requirement("runtime/linear-algebra-gradients", level="extended")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("function", ["inv", "solve", "cholesky", "qr", "svdvals", "eigvalsh", "pinv"])
def test_gradients_match_the_cpu(train, reference, evidence, function, layout):
    """Values and gradients of inverses and decompositions conform, whatever the layout of the matrices."""
    check(train, reference, evidence, LinearAlgebra(function, layout))


@requirement("runtime/determinant-gradients", level="extended")
@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
@pytest.mark.parametrize("function", DETERMINANTS)
def test_gradients_of_determinants_match_the_cpu(train, reference, evidence, function, layout):
    """Values and gradients of determinants of whole matrices conform."""
    check(train, reference, evidence, LinearAlgebra(function, layout))


@requirement("runtime/determinant-gradients-of-views", level="extended")
@pytest.mark.parametrize("function", DETERMINANTS)
def test_gradients_of_determinants_of_views_match_the_cpu(train, reference, evidence, function):
    """Values and gradients of determinants of parts of larger matrices conform."""
    check(train, reference, evidence, LinearAlgebra(function, "view"))


def check(train, reference, evidence, workload):
    """Value and gradient of the workload conform."""
    measured = train(workload)

    truth, peer = reference(workload, "float64"), reference(workload, "float32")
    evidence.check_equal("devices of the matrices", measured.parameter_devices, ("npu:0",))
    evidence.check_tensor("value", measured.details["value"], truth.details["value"], peer.details["value"])
    evidence.check_gradients(measured.gradients, truth.gradients, peer.gradients, limits=TENSOR)

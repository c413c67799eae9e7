"""A test that did nothing on the NPU, or checked nothing, does not pass."""

import pytest

from fixtures.vacuity import asserts_surely

# Stands in for torch_npu: a counter of allocations that a test moves by itself.
FAKE_CARD = """
import sys, types

class FakeNpu(types.ModuleType):
    allocated = 0
    def is_initialized(self): return True
    def device_count(self): return 1
    def memory_stats(self, card): return {"allocation.all.allocated": self.allocated, "allocated_bytes.all.peak": 64}

@pytest.fixture(autouse=True)
def fake(monkeypatch):
    torch = types.ModuleType("torch")
    torch.npu = FakeNpu("npu")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch_npu", types.ModuleType("torch_npu"))
    monkeypatch.setattr("fixtures.provenance.stack", dict)
    monkeypatch.setattr("fixtures.health.check", lambda config: None)
    return torch.npu

"""


def test_nothing_on_the_npu(suite):
    """A test whose checks hold but which allocated nothing on the NPU is VACUOUS; a mark of the host side excuses
    it.
    """
    ran = suite(
        FAKE_CARD
        + """
@requirement("demo/idle")
def test_idle(evidence):
    '''A card adds.'''
    evidence.check_equal("sum", 4, 4)

@pytest.mark.host
@requirement("demo/host")
def test_host(evidence):
    '''A host adds.'''
    evidence.check_equal("sum", 4, 4)

@requirement("demo/busy")
def test_busy(fake, evidence):
    '''A busy card adds.'''
    fake.allocated += 3
    evidence.check_equal("sum", 4, 4)
""",
        *("-n", "0"),
    )

    assert ran.outcomes == {"test_idle": "VACUOUS", "test_host": "PASS", "test_busy": "PASS"}
    assert ran.returncode == 1
    assert "ran nothing on the NPU" in ran.tests["test_idle"]["reason"]
    assert ran.tests["test_busy"]["npu"] == {"allocations": 3, "peak_bytes": 64}
    assert ran.verdict.startswith("verdict: NOT CONFORMANT")


def test_nothing_checked(suite):
    """A test that worked on the NPU but recorded no check and surely executes no assert is VACUOUS."""
    ran = suite(
        FAKE_CARD
        + """
@requirement("demo/unchecked")
def test_unchecked(fake, evidence):
    '''A card adds.'''
    fake.allocated += 3
    evidence.add(sum=5)

@requirement("demo/asserted")
def test_asserted(fake):
    '''A card subtracts.'''
    fake.allocated += 3
    assert fake.allocated == 3
""",
        *("-n", "0"),
    )

    assert ran.outcomes == {"test_unchecked": "VACUOUS", "test_asserted": "PASS"}
    assert "checked nothing" in ran.tests["test_unchecked"]["reason"]


def test_a_failure_is_not_called_vacuous(suite):
    """A test that fails before it does anything is a FAIL."""
    ran = suite(
        """
        @requirement("demo/fails")
        def test_fails():
            '''A card adds.'''
            assert 1 == 2
        """,
        *("-n", "0"),
    )

    assert ran.outcomes == {"test_fails": "FAIL"}


def test_cpu_fallbacks_are_findings(suite):
    """Operators that torch_npu says it ran on the CPU are recorded with their names, and the test still passes."""
    warning = (
        "[W1123 20:37:40.68 VariableFallbackKernel.cpp:230] Warning: CAUTION: The operator 'aten::i0.out' is not "
        "currently supported on the NPU backend and will fall back to run on the CPU. This may have performance "
        "implications."
    )
    ran = suite(
        f"""
        import sys

        @pytest.mark.host
        @requirement("demo/falls-back")
        def test_falls_back(evidence):
            '''A card adds.'''
            print({warning!r}, file=sys.stderr)
            evidence.check_equal("sum", 4, 4)
        """,
        *("-n", "0"),
    )

    assert ran.tests["test_falls_back"]["findings"] == [{"kind": "cpu-fallback", "operator": "aten::i0.out"}]
    assert "cpu-fallback: aten::i0.out [demo/falls-back]" in ran.stdout
    assert ran.outcomes == {"test_falls_back": "PASS"}


def asserts():
    value = 1
    assert value == 1


def asserts_under_with():
    with open("x"):
        assert open


def expects_an_error():
    with pytest.raises(ValueError, match="x"):
        int("x")


def asserts_in_both_branches():
    if open:
        assert open
    else:
        assert not open


def asserts_after_a_helper():
    def double(value):
        return 2 * value

    assert double(2) == 4


def asserts_in_one_branch():
    if open:
        assert open


def asserts_in_a_loop():
    for item in ():
        assert item


def asserts_after_a_return():
    if open:
        return
    assert open


def asserts_a_constant():
    assert "always true"


def does_not_assert():
    pass


@pytest.mark.parametrize(
    "function",
    [asserts, asserts_under_with, expects_an_error, asserts_in_both_branches, asserts_after_a_helper],
    ids=lambda f: f.__name__,
)
def test_sure_asserts(function):
    """An assert that no path to the end of a function avoids counts as a check."""
    assert asserts_surely(function)


@pytest.mark.parametrize(
    "function",
    [asserts_in_one_branch, asserts_in_a_loop, asserts_after_a_return, asserts_a_constant, does_not_assert],
    ids=lambda f: f.__name__,
)
def test_asserts_that_may_not_run(function):
    """An assert that a function may end without, or that cannot fail, does not count."""
    assert not asserts_surely(function)

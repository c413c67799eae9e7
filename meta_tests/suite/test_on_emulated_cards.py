"""What only a card can show, on emulated ones with the real torch_npu: activity, poisoned processes, dead and unseen
cards.
"""

import pytest

ADDING = """
@requirement("demo/{name}")
def test_{name}(npu, evidence):
    '''A card adds.'''
    import torch
    evidence.check_equal("sum", (torch.ones(8, device=npu) + 1).cpu(), torch.full((8,), 2.0))
"""


def test_a_run_on_a_card(suite):
    """A run says on which card it was, that the card was emulated, how it overflows, and what each test did on it."""
    ran = suite(
        ADDING.format(name="adds")
        + """
@requirement("demo/child")
def test_child(npu, command, evidence):
    '''A command runs on the card.'''
    import sys
    done = command([sys.executable, "-c", "import torch; print(torch.ones(3, device='npu').sum().item())"]).check()
    evidence.check_equal("processes that used the card", done.npu.processes, 1)
    evidence.check_equal("output", done.stdout.split()[-1], "3.0")

@requirement("demo/falls-back")
def test_falls_back(npu, evidence):
    '''A card has Bessel functions.'''
    import torch
    evidence.check_equal("shape", torch.special.i0(torch.ones(3, device=npu)).shape[0], 3)

@requirement("demo/idle")
def test_idle(npu, evidence):
    '''A card does nothing.'''
    import torch
    evidence.check_equal("sum", (torch.ones(3) + 1).sum().item(), 6.0)
""",
        *("-n", "1"),
        emulated=True,
    )

    assert ran.outcomes == {
        "test_adds": "PASS",
        "test_child": "PASS",
        "test_falls_back": "PASS",
        "test_idle": "VACUOUS",
    }
    assert ran.tests["test_adds"]["npu"]["allocations"] > 0
    assert ran.tests["test_child"]["values"]["commands"][0]["npu"]["devices"] == ["Ascend910B3"]
    assert {"kind": "cpu-fallback", "operator": "aten::i0.out"} in ran.tests["test_falls_back"]["findings"]
    (stack,) = [record for record in ran.records if record["type"] == "stack"]
    assert (stack["chip"], stack["overflow_mode"], stack["bf16"]) == ("Ascend910B3", "inf/nan", True)
    assert ran.records[0]["emulated"] is True
    assert ran.verdict == "verdict: NOT CONFORMANT on 2 EMULATED cards (Ascend910B3): 3 passed, 1 VACUOUS"


def test_a_real_poisoned_process(suite):
    """After an operator failed asynchronously, torch_npu computes nothing more; the tests after it run elsewhere and
    pass.
    """
    ran = suite(
        ADDING.format(name="before")
        + """
@requirement("demo/fails")
def test_fails(npu):
    '''A card has an error function.'''
    import torch
    while True:  # its failure may come out a moment after torch_npu's queue is empty
        torch.erf(torch.ones(8, device=npu)).cpu()
"""
        + ADDING.format(name="after")
        + ADDING.format(name="last"),
        *("-n", "1"),
        env={"NPU_EMULATOR_FAULTS": "aclnnErf:fail=507015"},
        emulated=True,
    )

    assert ran.outcomes == {"test_before": "PASS", "test_fails": "FAIL", "test_after": "PASS", "test_last": "PASS"}
    assert "the known-answer probe gave" in ran.tests["test_fails"]["poisoned"]
    assert [ran.tests[f"test_{name}"]["worker"] for name in ("fails", "after", "last")] == ["gw0", "gw1", "gw1"]


@pytest.mark.parametrize("faults", ["*:null", "aclnnMm:zero;aclnnMatmul:zero"], ids=["null device", "no products"])
def test_a_dead_card(suite, faults):
    """A card that does not give a known answer at the start is DEVICE_LOST, and nothing passes on it."""
    ran = suite(ADDING.format(name="adds"), "-n", "1", env={"NPU_EMULATOR_FAULTS": faults}, emulated=True)

    assert ran.outcomes == {"test_adds": "DEVICE_LOST"}
    assert "card 0 does not compute: the known-answer probe gave" in ran.tests["test_adds"]["reason"]
    assert ran.returncode == 1


def test_a_card_that_torch_npu_does_not_see(suite):
    """A card that is present but that torch_npu does not see is a FAIL, never a skip."""
    faults = {"NPU_EMULATOR_FAULTS": "aclrtGetDeviceCount:fail=107001"}
    ran = suite(ADDING.format(name="adds"), "-n", "1", env=faults, emulated=True)

    assert ran.outcomes == {"test_adds": "FAIL"}
    assert "card 0 is present, but torch_npu 2.13.0 sees 0 cards" in ran.tests["test_adds"]["reason"]


def test_transfer_to_npu_in_a_test(suite):
    """transfer_to_npu that something imported before the card is confirmed is a FAIL."""
    code = "import torch, torch_npu.contrib.transfer_to_npu\n" + ADDING.format(name="adds")
    ran = suite(code, "-n", "1", emulated=True)

    assert ran.outcomes == {"test_adds": "FAIL"}
    assert "torch.cuda.is_available() is True on an NPU: transfer_to_npu is active" in ran.tests["test_adds"]["reason"]


@pytest.mark.parametrize(
    ("library", "function", "message"),
    [
        ("transformers", "is_torch_npu_available", "transformers' is_torch_npu_available() is False"),
        ("accelerate", "is_npu_available", "accelerate's is_npu_available() is False"),
    ],
)
def test_a_card_that_a_library_does_not_see(suite, library, function, message):
    """A card that torch_npu sees but transformers or accelerate does not is a FAIL."""
    code = f"import {library}.utils\n{library}.utils.{function} = lambda check_device=False: False\n"
    ran = suite(code + ADDING.format(name="adds"), "-n", "1", emulated=True)

    assert ran.outcomes == {"test_adds": "FAIL"}
    assert f"card 0 is present, but {message}" in ran.tests["test_adds"]["reason"]

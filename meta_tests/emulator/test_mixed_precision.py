"""Loss scaling on the emulated card, in the amounts that training brings, against the CPU."""

COMPARISON = """
import torch

def unscaled(device, dtype, overflow_at):
    gradients = [torch.full((3,), 1.0 + i % 7, dtype=dtype, device=device) for i in range(600)]
    for i in overflow_at:
        gradients[i][1] = float("inf") if i % 2 else float("nan")
    found = torch.zeros(1, device=device)
    torch._amp_foreach_non_finite_check_and_unscale_(gradients, found, torch.tensor([1 / 3], device=device))
    return torch.cat([*gradients, found]).cpu()

def updated(device, scale, tracker, found):
    scale = torch.tensor([scale], device=device)
    tracker = torch.tensor([tracker], dtype=torch.int32, device=device)
    torch._amp_update_scale_(scale, tracker, torch.tensor([found], device=device), 2.0, 0.5, 4)
    return scale.item(), tracker.item()
"""


def test_overflow_is_found_in_every_gradient(emulated):
    """Overflow in the first, the last or any gradient between is found, and all gradients are unscaled all the same.

    torch_npu hands 250 gradients to one operator, so 600 take three, of which each may only raise the flag.
    """
    run = emulated(
        COMPARISON
        + """
for dtype in torch.float32, torch.float16, torch.bfloat16:
    for overflow_at in (), (0,), (1,), (249,), (250,), (251,), (599,), (0, 599):
        card, cpu = (unscaled(device, dtype, overflow_at) for device in ("npu", "cpu"))
        assert card[-1] == bool(overflow_at), (dtype, overflow_at)
        assert torch.equal(card.nan_to_num(nan=-1), cpu.nan_to_num(nan=-1)), (dtype, overflow_at)
"""
    ).succeeded()
    assert run.calls["aclnnForeachNonFiniteCheckAndUnscale"] == 3 * 3 * 8


def test_the_scale_follows_the_overflows(emulated):
    """The scale halves after an overflow, doubles after enough good steps, and stays finite."""
    emulated(
        COMPARISON
        + """
for scale in 65536.0, 3e38:
    for tracker in 0, 2, 3:
        for found in 0.0, 1.0:
            card, cpu = (updated(device, scale, tracker, found) for device in ("npu", "cpu"))
            assert card == cpu, (scale, tracker, found, card, cpu)
assert updated("npu", 65536.0, 3, 0.0) == (131072.0, 0)
assert updated("npu", 65536.0, 3, 1.0) == (32768.0, 0)
"""
    ).succeeded()


def test_saturation_clamps_what_is_computed_not_what_is_moved(emulated):
    """In saturation mode a cast to float16 clamps and raises the flag; -inf that is copied or filled in stays."""
    emulated(
        """
import torch, torch_npu

def overflowed():
    flag = torch_npu.npu.get_npu_overflow_flag()
    torch_npu.npu.clear_npu_overflow_flag()
    return flag

large = torch.tensor([1e6, -1e6, 1.0], device="npu")
half = torch.empty(3, device="npu", dtype=torch.float16)
for cast in large.half, lambda: half.copy_(large), lambda: torch._foreach_copy_([half], [large])[0]:
    assert cast().tolist() == [65504.0, -65504.0, 1.0]
    assert overflowed()
mask = torch.full((3,), float("-inf"), device="npu", dtype=torch.float16)
half.copy_(mask)
chosen = torch.where(large > 0, half, mask).masked_fill(large > 0, float("-inf"))
assert chosen.tolist() == [float("-inf")] * 3
assert not overflowed()
assert (half * 2).tolist() == [-65504.0] * 3
assert overflowed()
""",
        environment={"INF_NAN_MODE_FORCE_DISABLE": "1"},
    ).succeeded()

"""Dynamic loss scaling by torch.npu.amp.GradScaler and torch.amp.GradScaler("npu"), in both overflow modes.

Most expectations are what torch.amp.GradScaler does on the CPU in the same scene (fixtures/workloads/loss_scaling.py).
"""

import os
import sys

import pytest

from fixtures.chips import chip
from fixtures.requirement import requirement, unsupported
from fixtures.workloads.loss_scaling import SCALE, Clipping, LossScaling

pytestmark = [pytest.mark.single_npu, pytest.mark.runtime, pytest.mark.fp16]

SCALERS = pytest.mark.parametrize("scaler", ["torch_npu", "torch"])


# In saturation mode nothing looks at the values of gradients, and one flag is all that is known of a device's overflow.
# The fused optimizer is broken in the other mode already (D1, D2).
OUTSIDE_SATURATION = ("not finite", "two optimizers", "fused adamw")

SATURATED = f"""
from fixtures.workloads import loss_scaling
import torch_npu
facts = {{}}
for scaler in ("torch_npu", "torch"):
    for scene in loss_scaling.SCENES:
        if scene in {OUTSIDE_SATURATION!r}:
            continue
        details = loss_scaling.run(loss_scaling.LossScaling(scene, scaler), "npu").details
        facts[scaler + " " + scene] = json.loads(json.dumps(details))
flag = []
GradScaler = torch_npu.npu.amp.GradScaler
GradScaler.clear_npu_overflow_flag()
flag.append(GradScaler.get_npu_overflow_flag())
loss_scaling.overflowing(torch_npu.npu.amp.grad_scaler.torch, "npu")
flag.append(GradScaler.get_npu_overflow_flag())
flag.append(GradScaler.get_npu_overflow_flag())
GradScaler.clear_npu_overflow_flag()
flag.append(GradScaler.get_npu_overflow_flag())
report(facts=facts, flag=flag, inf_nan=torch_npu.npu.utils.is_support_inf_nan())
"""


@pytest.fixture
def plays(npu, train, reference, evidence):
    """plays(scene, scaler): the scene on the card, in this process, goes as on the CPU."""

    def judge(scene: str, scaler: str) -> None:
        __tracebackhide__ = True
        workload = LossScaling(scene, scaler)
        evidence.check_equal(scene, train(workload).details, reference(workload, "float32").details)

    return judge


@pytest.fixture(scope="session")
def _saturated() -> dict:
    """What the child process with saturation said, and what it did on the card, once for a process."""
    return {}


@pytest.fixture
def saturated(npu, probe, evidence, _saturated) -> dict:
    """All scenes, played in a process in saturation mode: "facts" by "scaler scene", and the "flag" over time."""
    import torch

    name = torch.npu.get_device_name(npu)
    if chip(name).series == "Ascend950":
        unsupported(f"{name} has no saturation mode")
    if not _saturated:
        before = evidence.allocations
        probed = probe(
            SATURATED,
            INF_NAN_MODE_ENABLE=None,
            INF_NAN_MODE_FORCE_DISABLE="1",
            PYTHONPATH=os.pathsep.join(filter(None, sys.path)),
        )
        _saturated.update(probed=probed, allocations=evidence.allocations - before)
    else:
        evidence.credit(_saturated["allocations"])
    probed = _saturated["probed"]
    assert probed.returncode == 0, probed.output[-3000:]
    evidence.check_equal("inf/nan mode", probed.facts["inf_nan"], False)
    return probed.facts


def needs_inf_nan() -> None:
    """Ends the test in a process whose card saturates."""
    import torch_npu

    if not torch_npu.npu.utils.is_support_inf_nan():
        unsupported("this process runs in saturation mode")


@SCALERS
@requirement("runtime/scaler-steps", level="core")
def test_steps_without_overflow_are_taken(plays, scaler):
    """Without overflow every step descends along the unscaled gradient, and the loss scale stays."""
    plays("plain", scaler)


@SCALERS
@requirement("runtime/scaler-skips-overflow", level="core")
def test_overflow_skips_the_step(plays, scaler):
    """A float16 overflow in one gradient skips that step alone, leaves the weights, and halves the loss scale."""
    plays("overflow", scaler)


@SCALERS
@requirement("runtime/scaler-not-finite", level="core")
def test_every_value_that_is_not_finite_skips_the_step(plays, scaler):
    """An infinity of either sign and a NaN in the last element of a gradient skip the step."""
    needs_inf_nan()
    plays("not finite", scaler)


@SCALERS
@requirement("runtime/scaler-growth", level="core")
def test_scale_grows_and_backs_off(plays, scaler):
    """The scale grows by its factor after growth_interval steps, counted anew from an overflow, which backs it off."""
    plays("growth", scaler)


@SCALERS
@requirement("runtime/scaler-large-gradients", level="core")
def test_large_finite_gradients_are_no_overflow(plays, scaler):
    """Finite gradients whose sum is beyond float32 are not taken for an overflow."""
    plays("large", scaler)


@SCALERS
@requirement("runtime/scaler-ignores-other-operators", level="core")
def test_overflow_elsewhere_skips_no_step(plays, scaler):
    """An overflow in an operator between two steps skips no step."""
    plays("leftover", scaler)


@SCALERS
@requirement("runtime/scaler-unscales", level="core")
def test_unscale(plays, scaler):
    """Unscaling divides every gradient by the scale, once in a step, and a second call is refused."""
    plays("unscale", scaler)


@SCALERS
@requirement("runtime/scaler-accumulation", level="core")
def test_accumulated_gradients(plays, scaler):
    """Accumulated gradients are unscaled together, and an overflow in any micro batch skips their step."""
    plays("accumulation", scaler)


@requirement("runtime/scaler-two-optimizers", level="extended")
def test_optimizers_are_judged_by_themselves(plays):
    """Where one torch.amp.GradScaler serves two optimizers, an overflow in one's gradients skips its step alone."""
    needs_inf_nan()
    plays("two optimizers", "torch")


@requirement("runtime/npu-scaler-two-optimizers", level="extended")
def test_optimizers_are_judged_by_themselves_by_the_npu_scaler(plays):
    """Where one torch.npu.amp.GradScaler serves two optimizers, an overflow in one's gradients skips its step alone."""
    needs_inf_nan()
    plays("two optimizers", "torch_npu")


@SCALERS
@requirement("runtime/scaler-refuses-float16-weights", level="core")
def test_float16_gradients_are_refused(plays, scaler):
    """Gradients of float16 weights are refused with CUDA's message."""
    plays("float16 weights", scaler)


@SCALERS
@requirement("runtime/scaler-set-scale", level="extended")
def test_scale_can_be_set_and_applied_to_lists(plays, scaler):
    """A new scale given to update counts from the next step on, for lists of tensors, too."""
    plays("new scale", scaler)


@SCALERS
@requirement("runtime/scaler-disabled", level="extended")
def test_disabled_scaler_does_nothing(plays, scaler):
    """A disabled scaler neither scales nor skips, and has an empty state."""
    plays("disabled", scaler)


@SCALERS
@requirement("runtime/scaler-clipping", level="core")
def test_clipping_under_the_scaler_matches_the_cpu(train, reference, evidence, scaler):
    """The norm that clip_grad_norm_ finds after unscale_, and the clipped gradients, are as exact as the CPU's."""
    workload = Clipping(scaler)

    measured = train(workload)

    truth, peer = reference(workload, "float64"), reference(workload, "float32")
    evidence.check_tensors("", measured.details, truth.details, peer.details)


@pytest.mark.checkpoint
@SCALERS
@requirement("runtime/scaler-state", level="core")
def test_state_goes_on_in_another_scaler(plays, scaler):
    """A scaler that loads another's state goes on with its scale and its count of steps without overflow."""
    plays("state", scaler)


@pytest.mark.checkpoint
@requirement("runtime/scaler-state-from-npu", level="extended")
def test_state_of_the_npu_scaler_is_read_by_torch(npu, evidence):
    """A torch.amp.GradScaler continues from the state of torch.npu.amp.GradScaler."""
    import torch

    source, target = torch.npu.amp.GradScaler(init_scale=SCALE, growth_interval=7), torch.amp.GradScaler("npu")

    target.load_state_dict(source.state_dict())

    scaled = target.scale(torch.ones(2, device="npu"))
    evidence.check_equal("scaled ones", scaled.tolist(), [SCALE, SCALE])
    evidence.check_equal("growth interval", target.get_growth_interval(), 7)


@pytest.mark.checkpoint
@requirement("runtime/scaler-state-from-elsewhere", level="core")
def test_state_of_another_device_is_loaded(npu, evidence):
    """A torch.npu.amp.GradScaler continues from the scaler state of a run on the CPU or on CUDA."""
    import torch

    foreign = torch.amp.GradScaler("cpu", init_scale=SCALE, growth_interval=7).state_dict()
    scaler = torch.npu.amp.GradScaler()

    scaler.load_state_dict(foreign)

    scaled = scaler.scale(torch.ones(2, device="npu"))
    evidence.check_equal("scaled ones", scaled.tolist(), [SCALE, SCALE])
    evidence.check_equal("growth interval", scaler.get_growth_interval(), 7)


@requirement("runtime/fused-adamw-found-inf", level="core")
def test_fused_adamw_honours_found_inf(npu, evidence):
    """The operator torch._fused_adamw_ leaves weights and moments alone where found_inf is set."""
    measured = fused_step(gradient=float("inf"), grad_scale=1.0, found_inf=1.0)

    evidence.check_equal("weights, first and second moments", measured[:3], ([1.0] * 4, [0.0] * 4, [0.0] * 4))


@requirement("runtime/fused-adamw-grad-scale", level="core")
def test_fused_adamw_honours_grad_scale(npu, evidence):
    """The operator torch._fused_adamw_ divides the gradients by grad_scale."""
    measured = fused_step(gradient=2.0 * SCALE, grad_scale=SCALE, found_inf=0.0)
    unscaled = fused_step(gradient=2.0, grad_scale=None, found_inf=None)

    evidence.check_equal("weights, first and second moments", measured, unscaled)


@requirement("runtime/scaler-fused-adamw", level="core")
def test_fused_adamw_under_the_scaler(train, reference, evidence):
    """Under torch.amp.GradScaler a fused AdamW unscales its gradients, and skips a step with overflow."""
    workload = LossScaling("fused adamw", "torch")

    measured, expected = train(workload).details, reference(workload, "float32").details

    evidence.check_equal("scales", measured["scales"], expected["scales"])
    evidence.check_equal("weights are finite", measured["finite"], expected["finite"])
    evidence.check_equal("moments", measured["moments"], expected["moments"])


@SCALERS
@requirement("runtime/saturation-scaler-skips-overflow", level="core")
def test_overflow_is_noticed_in_saturation_mode(saturated, reference, evidence, scaler):
    """In saturation mode the overflow flag skips exactly the steps with an overflow, in any micro batch of them."""
    for scene in ("plain", "overflow", "growth", "accumulation"):
        expected = reference(LossScaling(scene, scaler), "float32").details
        evidence.check_equal(scene, saturated["facts"][f"{scaler} {scene}"], expected)


@SCALERS
@requirement("runtime/saturation-scaler", level="core")
def test_scaler_is_the_same_in_saturation_mode(saturated, reference, evidence, scaler):
    """In saturation mode unscaling, state, large finite gradients, refusals and settings are as in inf/nan mode."""
    for scene in ("large", "unscale", "float16 weights", "disabled", "new scale", "state"):
        expected = reference(LossScaling(scene, scaler), "float32").details
        evidence.check_equal(scene, saturated["facts"][f"{scaler} {scene}"], expected)


@requirement("runtime/saturation-npu-scaler-leftovers", level="core")
def test_leftovers_skip_no_step_in_saturation_mode(saturated, reference, evidence):
    """In saturation mode an overflow before the loss is scaled skips no step of torch.npu.amp.GradScaler."""
    expected = reference(LossScaling("leftover"), "float32").details
    evidence.check_equal("leftover", saturated["facts"]["torch_npu leftover"], expected)


@requirement("runtime/saturation-scaler-leftovers", level="extended")
def test_leftovers_skip_no_step_of_torchs_scaler_in_saturation_mode(saturated, reference, evidence):
    """In saturation mode an overflow before the loss is scaled skips no step of torch.amp.GradScaler."""
    expected = reference(LossScaling("leftover", "torch"), "float32").details
    evidence.check_equal("leftover", saturated["facts"]["torch leftover"], expected)


@requirement("runtime/overflow-flag", level="core")
def test_overflow_flag_is_set_kept_and_cleared(saturated, evidence):
    """In saturation mode the overflow flag is unset when cleared, set by an overflow, kept when read, and cleared."""
    evidence.check_equal("the flag", saturated["flag"], [False, True, True, False])


def fused_step(gradient: float, grad_scale: float | None, found_inf: float | None) -> tuple[list, list, list]:
    """One step of torch._fused_adamw_ on the card from weights 1: the weights, the first and the second moments."""
    import torch

    def scalar(value):
        return None if value is None else torch.tensor(value, device="npu")

    weight, gradients = torch.ones(4, device="npu"), torch.full((4,), gradient, device="npu")
    first, second, step = torch.zeros(4, device="npu"), torch.zeros(4, device="npu"), torch.ones((), device="npu")
    torch._fused_adamw_(
        *([weight], [gradients], [first], [second], [], [step]),
        **{"lr": 0.125, "beta1": 0.5, "beta2": 0.5, "weight_decay": 0.0, "eps": 1e-8, "amsgrad": False},
        **{"maximize": False, "grad_scale": scalar(grad_scale), "found_inf": scalar(found_inf)},
    )
    return weight.tolist(), first.tolist(), second.tolist()

"""Training with accelerate on several cards in all the ways in which ranks can differ: data, parameters, schedule."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from fixtures.requirement import requirement
from fixtures.workloads.accelerate_ranks import STATES, everything
from fixtures.workloads.data_parallel import HALVES, REFUSED, WAYS, DataParallel

pytestmark = pytest.mark.multi_npu

WORLD_SIZES = [2, 4]
BF16_HOOK = "bf16_hook"
TRAINED = tuple(way for way in WAYS if way not in (REFUSED, BF16_HOOK))
ACCUMULATING = ("accumulate", "no_sync")


@pytest.fixture
def trained(ranks, reference):
    """trained(way, world_size) -> what each rank measured, the truth, and the peer."""

    def measure(way: str, world_size: int):
        spec = DataParallel(way, world_size)
        measured = ranks(spec, world_size, together=everything(world_size))
        return measured, reference(spec, "float64"), reference(spec, HALVES.get(way, "float32"))

    return measure


@requirement("accelerate/ddp-first-step", level="core")
@pytest.mark.parametrize("world_size", WORLD_SIZES)
@pytest.mark.parametrize("way", [way for way in TRAINED if way != "local_sgd"])
def test_first_gradients_are_those_of_all_ranks(trained, evidence, way, world_size):
    """On every rank the gradients of the first step are, as exactly as on the CPU, the mean of those of all ranks."""
    measured, truth, peer = trained(way, world_size)

    precision = "fp16" if way == "fp16_hook" else None
    for result in measured:
        evidence.check_gradients(result.gradients, truth.gradients, peer.gradients, precision)


@requirement("accelerate/ddp-training", level="core")
@pytest.mark.parametrize("world_size", WORLD_SIZES)
@pytest.mark.parametrize("way", TRAINED)
def test_training_follows_one_process(trained, evidence, way, world_size):
    """Ranks that began with different weights follow the losses, and end with the weights, of one process."""
    measured, truth, peer = trained(way, world_size)

    precision = "fp16" if way == "fp16_hook" else "fp32"
    for rank, result in enumerate(measured):
        evidence.check_equal("devices", result.parameter_devices, (f"npu:{rank}",))
        evidence.check_equal("initial weights", result.initial_weights, truth.initial_weights)
    evidence.check_curve("training loss", measured[0].losses, truth.losses, precision)
    evidence.check_tensors("weight", measured[0].final_weights, truth.final_weights, peer.final_weights, precision)


@requirement("accelerate/ddp-local-gradients", level="core")
@pytest.mark.parametrize("world_size", WORLD_SIZES)
@pytest.mark.parametrize("way", [*ACCUMULATING, "local_sgd"])
def test_nothing_is_communicated_before_it_is_time(trained, evidence, way, world_size):
    """Within no_sync, accumulate and local SGD each rank has the gradients of its own rows alone."""
    measured, truth, peer = trained(way, world_size)

    for rank, result in enumerate(measured):
        expected = [side.details["local gradients"][rank] for side in (truth, peer)]
        share = 2 if way in ACCUMULATING else 1  # of the micro batches' mean
        expected = [{name: gradient / share for name, gradient in side.items()} for side in expected]
        evidence.check_tensors("gradient", result.details["local gradients"], *expected)


@requirement("accelerate/ddp-frozen-parameters", level="core")
@pytest.mark.parametrize("way", ["frozen", "unused"])
def test_frozen_and_unused_parameters_stay(trained, evidence, way):
    """Parameters that are frozen or that no rank uses stay as they are, bit for bit, and all others move."""
    measured, _, _ = trained(way, 2)

    kept = ("body.0.weight", "body.0.bias") if way == "frozen" else ("heads.1.weight", "heads.1.bias")
    for result in measured:
        before, after = result.initial_weights, result.final_weights
        evidence.check_equal("kept", {n: after[n] for n in kept}, {n: before[n] for n in kept})
        stuck = [name for name in after if name not in kept and bool((after[name] == before[name]).all())]
        evidence.check_equal("parameters that did not move", stuck, [])


@requirement("accelerate/ddp-unused-parameters-refused", level="core")
def test_unused_parameters_are_refused(ranks, evidence):
    """Without find_unused_parameters a parameter that no rank uses is an error that names the setting, and no hang."""
    measured = ranks(DataParallel(REFUSED), 2, fresh=True, deadline=200)

    for result in measured:
        assert "find_unused_parameters=True" in (result.details["error"] or "no error"), result.details["error"]
        evidence.check_equal("steps before the error", sum(loss == loss for loss in result.losses), 1)


@pytest.mark.bf16
@requirement("accelerate/ddp-bf16-hook", level="extended")
def test_gradients_are_compressed_to_bfloat16(trained, evidence):
    """With the hook that compresses gradients to bfloat16 training follows one process that adds them in bfloat16."""
    measured, truth, peer = trained(BF16_HOOK, 2)

    assert measured[0].details["error"] is None, measured[0].details["error"]
    for result in measured:
        evidence.check_gradients(result.gradients, truth.gradients, peer.gradients, "bf16")
    evidence.check_curve("training loss", measured[0].losses, truth.losses, "bf16")


@pytest.mark.checkpoint
@requirement("accelerate/ddp-load-state", level="core")
@pytest.mark.parametrize("spec", STATES, ids=lambda spec: spec.precision)
def test_loaded_state_continues_exactly(ranks, evidence, spec):
    """On two cards, after load_state, training goes along the same losses to the same weights as after save_state."""
    for measured in ranks(spec, 2, together=everything(2)):
        half = len(measured.losses) // 2
        evidence.check_equal("losses", measured.details["resumed losses"], measured.losses[half:])
        evidence.check_equal("weights", measured.details["resumed weights"], measured.final_weights)


@requirement("accelerate/two-jobs-at-once", level="core")
def test_two_jobs_at_once(ranks, reference, evidence):
    """Two jobs on cards and ports of their own train at the same time as if each were alone."""
    ranks.demand(4)
    spec = DataParallel()

    with ThreadPoolExecutor(2) as both:
        jobs = [both.submit(ranks, spec, 2, fresh=True) for _ in range(2)]
        measured = [result for job in jobs for result in job.result()]

    truth, peer = reference(spec, "float64"), reference(spec, "float32")
    for result in measured:
        evidence.check_gradients(result.gradients, truth.gradients, peer.gradients)
        evidence.check_equal("losses", result.losses, measured[0].losses)

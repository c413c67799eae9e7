"""Optimizers on the card: their arithmetic in each precision, their state, and the Trainer's choice of them."""

import dataclasses

import pytest

from fixtures.activity import fallbacks
from fixtures.chips import needs
from fixtures.requirement import requirement
from fixtures.tolerances import TENSOR
from fixtures.workloads.optimizer_life import OptimizerLife
from fixtures.workloads.optimizers import DTYPES, Optimizers
from fixtures.workloads.sequence_classification import SequenceClassification

pytestmark = [pytest.mark.single_npu]

FP16, BF16 = pytest.param("fp16", marks=pytest.mark.fp16), pytest.param("bf16", marks=pytest.mark.bf16)
PRECISIONS = pytest.mark.parametrize("precision", ["fp32", FP16, BF16])

BERT = SequenceClassification(steps=6, batch=8, hidden=32, layers=1, activation="relu", evaluate=False)

FUSED = """
import torch
ran = []
for name, options in (("Adam", {}), ("AdamW", {}), ("Adagrad", {}), ("SGD", {"momentum": 0.9})):
    weight = torch.nn.Parameter(torch.ones(4, device="npu"))
    weight.grad = torch.ones(4, device="npu")
    getattr(torch.optim, name)([weight], lr=0.1, fused=True, **options).step()
    ran.append(name)
report(ran=ran)
"""


@pytest.fixture
def conforms(npu, train, reference, evidence):
    """conforms(workload): the weights after all steps, on the card, are as exact as the CPU's. Returns Measured."""

    def judge(workload: Optimizers):
        __tracebackhide__ = True
        needs(workload.precision, npu)
        measured = train(workload)
        truth, peer = reference(workload, "float64"), reference(workload, DTYPES[workload.precision])
        weights = (run.final_weights for run in (measured, truth, peer))
        # The gradients are given, so that nothing of a loss cancels, for which whole steps have wider limits.
        evidence.check_tensors("weight of", *weights, limits=TENSOR)
        return measured

    return judge


@PRECISIONS
@requirement("transformers/optimizer-adamw", level="core")
def test_adamw_matches_the_cpu(conforms, precision):
    """AdamW, single, foreach and fused, with all its options, moves weights of each precision as exactly as the CPU."""
    conforms(Optimizers("adamw", precision))


@requirement("transformers/optimizer-tensor-lr", level="extended")
def test_learning_rate_in_a_tensor(conforms):
    """AdamW takes its learning rate from a tensor on the card."""
    conforms(Optimizers("tensor lr"))


@PRECISIONS
@requirement("transformers/optimizer-others", level="core")
def test_other_optimizers_match_the_cpu(conforms, precision):
    """SGD, Adam, Adafactor, Adagrad, RMSprop and others, single and foreach, are as exact as the CPU's."""
    conforms(Optimizers("others", precision))


@PRECISIONS
@requirement("transformers/optimizer-other-fused", level="extended")
def test_other_fused_optimizers_match_the_cpu(conforms, precision):
    """Fused Adam, Adagrad and SGD with momentum are as exact as the CPU's."""
    conforms(Optimizers("other fused", precision))


@requirement("transformers/optimizer-fused-on-the-card", level="extended")
def test_fused_optimizers_run_on_the_card(probe, evidence):
    """Fused Adam, AdamW, Adagrad and SGD run on the card and not on the CPU."""
    probed = probe(FUSED)

    evidence.check_equal("optimizers", probed.facts.get("ran"), ["Adam", "AdamW", "Adagrad", "SGD"])
    evidence.check_equal("operators that fell back to the CPU", fallbacks(probed.output), [])


@requirement("transformers/optimizer-fused-sgd", level="extended")
def test_fused_sgd_without_momentum(conforms):
    """Fused SGD without momentum, its default, is as exact as the CPU's."""
    conforms(Optimizers("fused sgd"))


@requirement("transformers/optimizer-groups", level="core")
def test_groups_have_their_own_settings(conforms):
    """Each parameter group has its own learning rate, weight decay and betas, single, foreach and fused."""
    conforms(Optimizers("groups"))


@pytest.mark.checkpoint
@pytest.mark.parametrize("group", ["groups", "others"])
@requirement("transformers/optimizer-state-to-cpu", level="core")
def test_state_of_the_card_continues_on_the_cpu(train, reference, evidence, tmp_path, group):
    """An optimizer state saved on the card continues on a CPU without NPU, to the weights of one run."""
    file = str(tmp_path / "state.pt")
    half = Optimizers(group, steps=5)

    train(dataclasses.replace(half, save=file))
    measured = reference(dataclasses.replace(half, load=file), "float32").final_weights

    whole = dataclasses.replace(half, steps=10)
    truth, peer = reference(whole, "float64").final_weights, reference(whole, "float32").final_weights
    evidence.check_tensors("weight of", measured, truth, peer)


@pytest.mark.checkpoint
@pytest.mark.parametrize("group", ["groups", "others"])
@requirement("transformers/optimizer-state-to-npu", level="core")
def test_state_of_the_cpu_continues_on_the_card(npu, train, reference, evidence, tmp_path, group):
    """An optimizer state saved on a CPU continues on the card, where its moments go, to the weights of one run."""
    file = str(tmp_path / "state.pt")
    half = Optimizers(group, steps=5)

    reference(dataclasses.replace(half, save=file), "float32")
    measured = train(dataclasses.replace(half, load=file))

    whole = dataclasses.replace(half, steps=10)
    truth, peer = reference(whole, "float64").final_weights, reference(whole, "float32").final_weights
    evidence.check_equal("devices of the state", measured.details["state devices"], ["npu:0"])
    evidence.check_tensors("weight of", measured.final_weights, truth, peer)


@pytest.mark.parametrize("scene", ["frozen then unfrozen", "tied", "unused", "added group"])
@pytest.mark.parametrize("how", ["foreach", "fused"])
@requirement("transformers/optimizer-changing-parameters", level="core")
def test_parameters_may_change(train, reference, evidence, scene, how):
    """Frozen and unfrozen, tied, unused and later added parameters train as on the CPU."""
    workload = OptimizerLife(scene, **{how: True})

    measured = train(workload)

    truth, peer = reference(workload, "float64"), reference(workload, "float32")
    evidence.check_curve("loss", measured.losses, truth.losses)
    evidence.check_tensors("weight", measured.final_weights, truth.final_weights, peer.final_weights)


@requirement("transformers/optimizer-sparse-adam", level="extended")
def test_sparse_adam_matches_the_cpu(train, reference, evidence):
    """SparseAdam trains an embedding with sparse gradients as the CPU does."""
    workload = OptimizerLife("sparse", foreach=True)

    measured = train(workload)

    truth, peer = reference(workload, "float64"), reference(workload, "float32")
    evidence.check_curve("loss", measured.losses, truth.losses)
    evidence.check_tensors("weight", measured.final_weights, truth.final_weights, peer.final_weights)


@pytest.mark.parametrize("precision", ["fp32", FP16])
@requirement("transformers/optimizer-npu-fused", level="extended")
def test_optimizers_of_torch_npu_match_the_cpu(conforms, precision):
    """The fused optimizers of torch_npu, with gradients that keep their memory, are as exact as torch's on the CPU."""
    conforms(Optimizers("npu fused", precision, zero_in_place=True))


@pytest.mark.bf16
@requirement("transformers/optimizer-npu-fused-bf16", level="extended")
def test_optimizers_of_torch_npu_take_bfloat16(conforms):
    """The fused optimizers of torch_npu move weights of bfloat16 as exactly as torch's on the CPU."""
    conforms(Optimizers("npu fused", "bf16", zero_in_place=True))


@requirement("transformers/trainer-npu-fused-adamw", level="core")
def test_npu_fused_adamw_trains(train, reference, evidence):
    """The Trainer with adamw_torch_npu_fused follows the exact loss curve of AdamW."""
    measured = train(dataclasses.replace(BERT, optim="adamw_torch_npu_fused"))

    evidence.check_curve("training loss", measured.losses, reference(BERT, "float64").losses)


@PRECISIONS
@pytest.mark.parametrize("optim", ["adamw_torch", "sgd", "adafactor", "adagrad", "rmsprop"])
@requirement("transformers/trainer-optimizers", level="core")
def test_trainer_trains_with_each_optimizer(npu, train, reference, evidence, optim, precision):
    """The Trainer with each optimizer in each precision follows the exact loss curve, and skips no step."""
    needs(precision, npu)
    workload = dataclasses.replace(BERT, optim=optim, lr=0.05 if optim == "sgd" else 1e-3)

    measured = train(dataclasses.replace(workload, precision=precision))

    evidence.check_equal("skipped steps", measured.skipped_steps, ())
    evidence.check_curve("training loss", measured.losses, reference(workload, "float64").losses, precision)


@pytest.mark.parametrize("precision", ["fp32", BF16])
@requirement("transformers/trainer-fused-adamw", level="core")
def test_trainer_trains_with_fused_adamw(npu, train, reference, evidence, precision):
    """The Trainer with adamw_torch_fused in float32 and bfloat16 follows the exact loss curve."""
    needs(precision, npu)
    workload = dataclasses.replace(BERT, optim="adamw_torch_fused", lr=1e-3)

    measured = train(dataclasses.replace(workload, precision=precision))

    evidence.check_curve("training loss", measured.losses, reference(workload, "float64").losses, precision)


@pytest.mark.fp16
@requirement("transformers/trainer-fused-adamw-fp16", level="core")
def test_trainer_trains_with_fused_adamw_in_float16(train, reference, evidence):
    """The Trainer with adamw_torch_fused in float16 follows the exact loss curve."""
    workload = dataclasses.replace(BERT, optim="adamw_torch_fused", lr=1e-3)

    measured = train(dataclasses.replace(workload, precision="fp16"))

    evidence.check_curve("training loss", measured.losses, reference(workload, "float64").losses, "fp16")

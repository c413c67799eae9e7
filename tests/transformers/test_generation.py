"""Generation: every way of decoding, every family of models, sampling, and the text-generation pipeline."""

import dataclasses

import pytest

from fixtures import numerics
from fixtures.requirement import requirement
from fixtures.step_checks import PRECISION
from fixtures.tolerances import TENSOR
from fixtures.workloads.decoding import WAYS, Decoding, Pipeline, Sampling

pytestmark = [pytest.mark.single_npu]

GREEDY = Decoding()
SAME_AS_GREEDY = ("static cache", "no cache", "assisted", "prompt lookup")


@requirement("transformers/generate-ways", level="core")
@pytest.mark.parametrize("way", [*WAYS, "assisted"])
def test_every_way_of_decoding_gives_the_tokens_of_the_cpu(train, reference, evidence, way):
    """Decoding with any cache, with drafts, penalties or several beams gives the CPU's tokens."""
    workload = dataclasses.replace(GREEDY, way=way)

    measured = train(workload)

    tokens = measured.details["tokens"]
    evidence.check_equal("devices of the parameters", measured.parameter_devices, ("npu:0",))
    evidence.check_equal("tokens", tokens, reference(workload, "float32").details["tokens"])
    if way in SAME_AS_GREEDY:
        greedy = reference(GREEDY, "float32").details["tokens"]
        evidence.check_equal("tokens, as greedy decoding gives them", tokens, greedy[: len(tokens)])


@requirement("transformers/generate-families", level="core")
@pytest.mark.parametrize(
    "family",
    ["gpt2", "opt", "bloom", "mistral", "qwen3", "mixtral", "gemma2", "gpt_oss", "deepseek_v3", "mamba", "t5", "bart"],
)
def test_every_family_generates_the_tokens_of_the_cpu(train, reference, evidence, family):
    """Whatever its cache holds (a window, latent keys, a state), a model generates the CPU's tokens."""
    # Models with random weights repeat themselves unless it costs them.
    workload = Decoding(family, way="repetition penalty")

    measured = train(workload)

    evidence.check_equal("devices of the parameters", measured.parameter_devices, ("npu:0",))
    evidence.check_equal("tokens", measured.details["tokens"], reference(workload, "float32").details["tokens"])


@requirement("transformers/generate-log-probabilities", level="core")
@pytest.mark.attention
@pytest.mark.parametrize(
    ("attn", "dtype"),
    [
        ("eager", "float32"),
        ("sdpa", "float32"),
        pytest.param("flash_attention_2", "float16", marks=pytest.mark.fp16),
        pytest.param("sdpa", "bfloat16", marks=pytest.mark.bf16),
    ],
)
def test_generating_and_reading_give_the_same_probabilities(train, reference, evidence, attn, dtype):
    """Tokens have the probabilities while they are generated that they have when the model reads the text at once."""
    workload = Decoding(attn=attn, dtype=dtype)

    measured = train(workload).details

    generated, read = "log-probabilities", "log-probabilities of the text"
    sdpa = dataclasses.replace(workload, attn="sdpa")
    peer = reference(workload if attn == "eager" else sdpa, dtype).details
    if dtype == "float32":
        truth = reference(sdpa, "float64").details
        evidence.check_equal("tokens", measured["tokens"], truth["tokens"])
        evidence.check_tensor(generated, measured[generated], truth[read], peer[generated])
        evidence.check_tensor(read, measured[read], truth[read], peer[read])
    else:
        # Rounding chooses among tokens that are equally probable, so that texts differ and only the gaps compare.
        gap, gap_of_the_cpu = (numerics.scale(found[generated] - found[read]) for found in (measured, peer))
        limit = TENSOR[PRECISION[dtype]]
        evidence.check_below("gap (rms)", gap.rms, limit.rms_factor * gap_of_the_cpu.rms, limit.source)
        evidence.check_below("gap (max)", gap.max, limit.max_factor * gap_of_the_cpu.max, limit.source)


@requirement("transformers/sampling-distribution", level="core")
@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_samples_are_distributed_as_the_probabilities(train, reference, evidence, top_p):
    """Sampled tokens are among those that top-k and top-p leave, as often as probable, and the same for one seed."""
    workload = Sampling(top_p=top_p)

    measured = train(workload).details

    probabilities = reference(workload, "float64").details["probabilities"]
    counts, possible = measured["counts"], probabilities > 0
    evidence.add(counts=counts[possible], expected=probabilities[possible] * workload.draws)
    evidence.check_equal("samples of impossible tokens", int(counts[~possible].sum()), 0)
    expected = probabilities[possible] * workload.draws
    deviations = (counts[possible] - expected) / (expected * (1 - probabilities[possible])).sqrt()
    evidence.check_below(
        "largest deviation", deviations.abs().max().item(), 5, "in standard deviations of the binomial"
    )
    evidence.check_equal("tokens with the same seed", measured["tokens again"], measured["tokens"])


@requirement("transformers/pipeline", level="core")
@pytest.mark.parametrize("device", [0, "npu:0", "npu"])
def test_pipeline_generates_on_the_card(train, reference, evidence, device):
    """A text-generation pipeline runs on the card that it is told by number or name, and gives the CPU's texts."""
    workload = Pipeline(device)

    measured = train(workload)

    evidence.check_equal("devices of the parameters", measured.parameter_devices, ("npu:0",))
    evidence.check_equal("texts", measured.details["texts"], reference(workload, "float32").details["texts"])

"""--model: real configurations shrink to small models that do all that is asked; what cannot be tested is refused in a
line; a wrong card is found out.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_bad_input import PASSING, refused

from conftest import ROOT
from fixtures import user_model
from fixtures.model_preparation import Unfit

ASKED = """
@pytest.mark.host
@pytest.mark.user_model("{task}")
@requirement("demo/{task}")
def test_{task}(user_model, evidence):
    '''A model is asked for something.'''
    evidence.check_equal("task", user_model.task, "{task}")
"""

# Model types whose configurations have the sizes of real models by default, with the architecture, the input that is
# chosen, and what is left out.
REAL = {
    "bert": ("BertForMaskedLM", "text", {"generate"}),
    "roberta": ("RobertaForSequenceClassification", "text", {"generate"}),
    "gpt2": ("GPT2LMHeadModel", "text", set()),
    "llama": ("LlamaForCausalLM", "text", set()),
    "mistral": ("MistralForCausalLM", "text", set()),
    "qwen2": ("Qwen2ForCausalLM", "text", set()),
    "qwen3": ("Qwen3ForCausalLM", "text", set()),
    "qwen3_moe": ("Qwen3MoeForCausalLM", "text", set()),
    "mixtral": ("MixtralForCausalLM", "text", set()),
    "gemma2": ("Gemma2ForCausalLM", "text", set()),
    "gemma3_text": ("Gemma3ForCausalLM", "text", set()),
    "phi3": ("Phi3ForCausalLM", "text", set()),
    "deepseek_v2": ("DeepseekV2ForCausalLM", "text", set()),
    "deepseek_v3": ("DeepseekV3ForCausalLM", "text", set()),
    "gpt_oss": ("GptOssForCausalLM", "text", set()),
    "mamba": ("MambaForCausalLM", "text", {"lora"}),
    "t5": ("T5ForConditionalGeneration", "text_to_text", set()),
    "bart": ("BartForConditionalGeneration", "text_to_text", set()),
    "vit": ("ViTForImageClassification", "image", {"generate"}),
    "clip": ("CLIPModel", "image_and_text", {"generate"}),
    "whisper": ("WhisperForConditionalGeneration", "spectrogram", set()),
    "llava": ("LlavaForConditionalGeneration", "text_about_an_image", set()),
    "qwen2_vl": ("Qwen2VLForConditionalGeneration", "text_about_patches", set()),
    "gemma3": ("Gemma3ForConditionalGeneration", "text_about_an_image", set()),
    "gptj": ("GPTJForCausalLM", "text", set()),
    "gemma4_text": ("Gemma4ForCausalLM", "text", set()),
    "kimi_linear": ("KimiLinearForCausalLM", "text", set()),
    "zamba2": ("Zamba2ForCausalLM", "text", set()),
    "llama4": ("Llama4ForConditionalGeneration", "text", {"lora"}),
    "mistral3": ("Mistral3ForConditionalGeneration", "text_about_an_image", set()),
    "smolvlm": ("SmolVLMForConditionalGeneration", "text_about_an_image", set()),
    "glm4v": ("Glm4vForConditionalGeneration", "text_about_patches", set()),
    "swin": ("SwinForImageClassification", "image", {"generate"}),
    "wav2vec2": ("Wav2Vec2ForCTC", "wave", {"generate"}),
}
# What transformers leaves open by default, and the models of that type do not.
GIVEN = {
    "deepseek_v2": {
        **{"n_routed_experts": 64, "num_experts_per_tok": 6, "n_shared_experts": 2, "first_k_dense_replace": 1},
        **{"topk_method": "greedy", "num_hidden_layers": 27, "moe_intermediate_size": 1408, "q_lora_rank": None},
    },
    "mixtral": {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}},
}
# What cannot be tested, with what is said of it.
UNFIT = {
    "unknown": ({"model_type": "no_such_model"}, 'knows no model_type "no_such_model"'),
    "remote-code": (
        {"model_type": "theirs", "auto_map": {"AutoModel": "modeling.Theirs"}},
        'model_type "theirs" comes with code of its own (auto_map), which is not run here: only architectures of '
        "transformers are tested",
    ),
    "malformed": (
        {"model_type": "llama", "hidden_size": "large"},
        'transformers does not take this as a configuration of "llama"',
    ),
    "cannot-be-built": ({"model_type": "timm_backbone", "backbone": "resnet50"}, "timm"),
}
BLIND = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
PREPARE_ALL = """
import dataclasses, json, sys
sys.modules["torch_npu"] = None
import transformers
from pathlib import Path
from fixtures import model_preparation
for kind, (architecture, given) in json.loads(sys.argv[2]).items():
    file = Path(sys.argv[1]) / f"{kind}.json"
    full = given
    if architecture:
        full = transformers.CONFIG_MAPPING[kind](**given, architectures=[architecture]).to_dict()
    file.write_text(json.dumps(full, default=str))
    try:
        answer = dataclasses.asdict(model_preparation.prepare(file))
    except model_preparation.Unfit as unfit:
        answer = {"unfit": str(unfit)}
    found = {"kind": kind, "full": full, "prepared": answer}
    print(model_preparation.PREFIX + json.dumps(found, default=str), flush=True)
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """By key of REAL and UNFIT: the full configuration, and what was prepared of it; all in one process."""
    asked = {kind: (architecture, GIVEN.get(kind, {})) for kind, (architecture, *_) in REAL.items()}
    asked |= {name: (None, values) for name, (values, _) in UNFIT.items()}
    done = subprocess.run(
        [sys.executable, "-c", PREPARE_ALL, tmp_path_factory.mktemp("configurations"), json.dumps(asked)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **BLIND},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    prefix = user_model.model_preparation.PREFIX
    answers = [json.loads(line.removeprefix(prefix)) for line in done.stdout.splitlines() if line.startswith(prefix)]
    return {answer["kind"]: answer for answer in answers}


@pytest.mark.parametrize("kind", REAL)
def test_real_configurations_are_shrunk(prepared, kind):
    """A configuration of full size becomes a small model of the same architecture that does all that applies to it."""
    found = prepared[kind]["prepared"]

    assert "unfit" not in found, found
    assert (found["architecture"], found["recipe"], set(found["skipped"])) == REAL[kind], found["skipped"]
    assert found["parameters"] < 2_000_000
    assert found["truth"] == "float64"


def layer_kinds(values: dict) -> set:
    """The kinds of layers that a configuration lists, in itself and in the configurations inside it."""
    inside = [part for part in values.values() if isinstance(part, dict)]
    return set(values.get("layer_types") or ()).union(*map(layer_kinds, inside))


@pytest.mark.parametrize("kind", REAL)
def test_what_makes_an_architecture_stays(prepared, kind):
    """Every kind of layer, the ratio of heads, experts and what is tied are in the shrunk configuration, too."""
    full, small = prepared[kind]["full"], json.loads(prepared[kind]["prepared"]["configuration"])

    assert layer_kinds(small) == layer_kinds(full)
    for name in ("tie_word_embeddings", "hidden_act", "activation_function", "norm_topk_prob", "scoring_func"):
        assert small.get(name) == full.get(name)
    for part, whole in ((small, full), (small.get("text_config", {}), full.get("text_config", {}))):
        if whole.get("num_key_value_heads"):
            grouped = whole["num_key_value_heads"] < whole["num_attention_heads"]
            assert (part["num_key_value_heads"] < part["num_attention_heads"]) == grouped
        if isinstance(whole.get("num_experts_per_tok"), int):
            assert part["num_experts_per_tok"] == min(2, whole["num_experts_per_tok"])


def test_dense_layers_before_experts_stay():
    """Of three dense layers before those with experts one stays, and lists keep one entry for each layer that stays."""
    from fixtures.shrinking import shrink

    types = ["sliding_attention"] * 5 + ["full_attention"]
    small = shrink(
        {"num_hidden_layers": 12, "first_k_dense_replace": 3, "layer_types": types * 2, "mlp_only_layers": [11]}
    )

    assert small["num_hidden_layers"] == len(small["layer_types"]) == 4
    assert small["layer_types"] == ["sliding_attention", "sliding_attention", "full_attention", "full_attention"]
    assert small["first_k_dense_replace"] == 1
    assert small["mlp_only_layers"] == [3]


def test_special_tokens_keep_apart():
    """Equal ids stay equal, different ones different, all within the small vocabulary."""
    from fixtures.shrinking import shrink

    tokens = {"bos_token_id": 128000, "eos_token_id": [128001, 128009], "image_token_id": 128256, "pad_token_id": 0}
    small = shrink({"vocab_size": 128512, **tokens, "text_config": {"vocab_size": 128512, "bos_token_id": 128000}})

    ids = [small["bos_token_id"], *small["eos_token_id"], small["image_token_id"], small["pad_token_id"]]
    assert len(set(ids)) == 5
    assert max(ids) < small["vocab_size"]
    assert small["text_config"]["bos_token_id"] == small["bos_token_id"]
    assert small["pad_token_id"] == 0


def written(directory: Path, values) -> Path:
    """A configuration file."""
    file = directory / "config.json"
    file.write_text(values if isinstance(values, str) else json.dumps(values))
    return file


def test_paths_that_do_not_exist(suite, tmp_path):
    """A path that does not exist is refused."""
    ran = suite(PASSING, f"--model={tmp_path}/nothing")

    refused(
        ran,
        f"--model {tmp_path}/nothing: there is no such file or directory. Give a model's directory or its config.json",
    )


def test_directories_without_a_configuration(suite, tmp_path):
    """A directory without a configuration is refused."""
    ran = suite(PASSING, f"--model={tmp_path}")

    refused(
        ran,
        f"--model {tmp_path}: the directory has no config.json. Give a model's directory or its config.json",
    )


def test_adapters_are_no_models(suite, tmp_path):
    """A directory that holds an adapter alone is refused as that."""
    (tmp_path / "adapter_config.json").write_text("{}")

    ran = suite(PASSING, f"--model={tmp_path}")

    refused(
        ran,
        f"--model {tmp_path}: the directory holds an adapter of peft, not the model that it is for. Give a model's "
        "directory or its config.json",
    )


def test_names_of_the_hub(suite, tmp_path):
    """A model's name on the hub is looked up in the cache of this machine alone; one that is not there is refused."""
    ran = suite(PASSING, "--model", "some-org/some-model", env={"HF_HOME": str(tmp_path)})

    assert "--model some-org/some-model: there is no such file or directory, and if it is the name" in ran.stderr
    assert "hf download some-org/some-model config.json" in ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR


def test_profiles_are_about_every_stack(suite, tmp_path):
    """--model and --profile exclude each other."""
    file = written(tmp_path, {"model_type": "llama"})
    profile = '[[profile]]\nname = "demo"\nsentence = "It works."\ninclude = [{ id = "demo/*" }]\n'

    ran = suite(PASSING, f"--model={file}", "--profile", "demo", files={"profiles.toml": profile})

    refused(ran, "--model tests one model, --profile what every stack must do: give one of them")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{", "config.json is not readable as JSON: Expecting property name enclosed in double quotes"),
        ("[]", 'config.json has no "model_type", by which transformers knows an architecture'),
        ({"hidden_size": 64}, 'config.json has no "model_type", by which transformers knows an architecture'),
    ],
    ids=["malformed", "no mapping", "no model type"],
)
def test_files_that_are_no_configuration(suite, tmp_path, values, message):
    """What is not JSON, or has no model type, is refused before anything is imported."""
    file = written(tmp_path, values)

    ran = suite(PASSING, f"--model={file}")

    assert f"ERROR: --model {file}: {message}" in ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize("name", UNFIT)
def test_models_that_cannot_be_tested(prepared, name):
    """An unknown architecture, one with code of its own, and one that cannot be built are refused in one line."""
    said = prepared[name]["prepared"]["unfit"]

    assert UNFIT[name][1] in said
    assert "\n" not in said


def test_quantised_configurations_are_tested_unquantised(prepared):
    """A quantised configuration is tested without quantisation, and that is said."""
    found = prepared["mixtral"]["prepared"]

    assert "the weights are not quantised: tested in float32" in found["notes"]
    assert "quantization_config" not in json.loads(found["configuration"])


@pytest.mark.parametrize(("kind", "exact"), [("qwen2_vl", True), ("bert", True), ("llama", False), ("gpt2", False)])
def test_the_exact_gelu_is_announced(prepared, kind, exact):
    """Whoever computes the exact gelu, by configuration or by a layer of its own, is told of the known defect."""
    assert any("GELU-exact-gelu" in note for note in prepared[kind]["prepared"]["notes"]) == exact


def test_what_another_process_finds_unfit(tmp_path):
    """What the preparing process refuses is raised here."""
    with pytest.raises(Unfit, match='knows no model_type "no_such_model"'):
        user_model.prepare(written(tmp_path, {"model_type": "no_such_model"}))


def test_without_a_model_its_tests_are_no_part_of_the_run(suite):
    """Without --model its tests are deselected, and the run is complete without them."""
    ran = suite(PASSING + ASKED.format(task="step"), "-n", "0")

    assert ran.outcomes == {"test_passes": "PASS"}
    assert "INCOMPLETE" not in ran.verdict
    assert ran.returncode == 0


def test_with_a_model_its_tests_are_the_run(suite, tmp_path, monkeypatch):
    """With --model nothing else runs, in workers either, and a task that does not apply is left out and named."""
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "architectures": ["BertForSequenceClassification"]}
    file = written(tmp_path, {"model_type": "bert", **sizes})

    ran = suite(PASSING + ASKED.format(task="step") + ASKED.format(task="generate"), "-n", "1", f"--model={file}")

    assert ran.outcomes == {"test_step": "PASS"}
    assert f"model: BertForSequenceClassification (bert) as in {file}" in ran.stdout
    assert "  not run: generate: BertForSequenceClassification does not generate" in ran.stdout
    assert "verdict: CONFORMANT with a small BertForSequenceClassification on no card" in ran.verdict
    assert ran.tests["test_step"]["reproduce"].endswith(f'::test_step" --model={file}')
    header = ran.records[0]
    assert header["model"]["source"] == str(file)
    assert header["model"]["recipe"] == "text"


@pytest.fixture
def conformance(built, tmp_path):
    """conformance(file, **env): the real suite with --model on emulated cards -> outcomes, and what it said."""

    def run(file: Path, **env: str) -> tuple[dict[str, str], str]:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "emulator", sys.executable, "-m", "pytest", "-m", "single_npu", "-n", "1"),
                *(f"--model={file}", f"--run-dir={tmp_path / 'run'}"),
            ],
            cwd=ROOT,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            check=False,
        )
        records = map(json.loads, (tmp_path / "run/journal.jsonl").read_text().splitlines())
        outcomes = {r["requirement"]: r["outcome"] for r in records if r["type"] == "test"}
        return outcomes, done.stdout + done.stderr

    return run


ALL = {f"transformers/your-model-{task}" for task in ("load", "forward", "step", "training", "generation")}
MOE = {
    "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "hidden_size": 2048, "num_hidden_layers": 48,
    "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8,
    "moe_intermediate_size": 768, "intermediate_size": 6144, "vocab_size": 151936, "eos_token_id": 151645,
}  # fmt: skip


def test_a_real_model_conforms(conformance, tmp_path):
    """A mixture of experts of thirty billion parameters is tested in its small form, and conforms."""
    outcomes, said = conformance(written(tmp_path, MOE))

    assert outcomes == dict.fromkeys(ALL | {"peft/your-model-lora"}, "PASS"), said[-3000:]


def test_a_wrong_card_is_found_out(conformance, tmp_path):
    """A card whose embeddings have wrong gradients fails in the step of the model, and nowhere else."""
    faults = {"NPU_EMULATOR_FAULTS": "aclnnEmbeddingDenseBackward:scale=1.02"}

    outcomes, said = conformance(written(tmp_path, MOE), **faults)

    failed = {name for name, outcome in outcomes.items() if outcome != "PASS"}
    assert failed == {"transformers/your-model-step"}, said[-3000:]

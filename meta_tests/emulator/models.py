"""Tiny models of many architectures, made from configurations of transformers, and how each is trained.

    python -m meta_tests.emulator.models DEVICE FOLDER NAME ...

trains the named models, each in a process of its own that is forked after the libraries are imported, and writes
FOLDER/NAME.safetensors: the final state dict, and as "loss" that of each step, float64[STEPS]. The device "npu" needs
the emulator; "cpu" is the reference, where torch_npu must not be found, because the libraries take other paths
where it is.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

STEPS = 3
BATCH = 4
LENGTH = 12
VOCABULARY = 100

GELU = "gelu_pytorch_tanh"
"""Instead of the formula with erf: a card computes this one for both, so that models with erf would differ a little."""

# What most text models have in common; their configurations use one set of names for it.
TEXT = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "pad_token_id": 0}
HEADS = {"num_attention_heads": 4}
GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "image_size": 32, "patch_size": 8}
SEQUENCE_TO_SEQUENCE = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


def tokens(length: int = LENGTH, lowest: int = 5, highest: int = VOCABULARY) -> torch.Tensor:
    """Token ids, int64[BATCH, length]."""
    return torch.randint(lowest, highest, (BATCH, length))


def images() -> torch.Tensor:
    """Pixel values, float32[BATCH, 3, 32, 32]."""
    return torch.randn(BATCH, 3, 32, 32)


def classes(count: int = 3) -> torch.Tensor:
    """Class numbers, int64[BATCH]."""
    return torch.randint(0, count, (BATCH,))


def text_to_text() -> dict:
    """A batch of source and target sequences."""
    return {"input_ids": tokens(), "labels": tokens()}


def causal(configuration: Any) -> tuple[Any, Callable[[], dict]]:
    """A causal language model and its batches, whose labels are their input."""

    def batch() -> dict:
        ids = tokens()
        return {"input_ids": ids, "labels": ids}

    return transformers.AutoModelForCausalLM.from_config(configuration), batch


def bert() -> tuple[Any, Callable[[], dict]]:
    """An encoder with padded sequences and a pair classifier."""
    configuration = transformers.BertConfig(**TEXT, **HEADS, hidden_act=GELU, num_labels=2)

    def batch() -> dict:
        mask = torch.ones(BATCH, LENGTH, dtype=torch.int64)
        mask[1, -3:] = 0
        return {
            "input_ids": tokens(),
            "attention_mask": mask,
            "token_type_ids": tokens(highest=6) - 5,
            "labels": classes(2),
        }

    return transformers.BertForSequenceClassification(configuration), batch


def gpt2() -> tuple[Any, Callable[[], dict]]:
    """Learned positions, fused projections, tanh gelu, tied embeddings."""
    return causal(transformers.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=32))


def llama() -> tuple[Any, Callable[[], dict]]:
    """Rotary positions, RMS norm, gated units, grouped-query attention."""
    return causal(transformers.LlamaConfig(**TEXT, **GROUPED))


def qwen3() -> tuple[Any, Callable[[], dict]]:
    """Norms of queries and keys."""
    return causal(transformers.Qwen3Config(**TEXT, **GROUPED))


def mixtral() -> tuple[Any, Callable[[], dict]]:
    """A mixture of experts: top-k, one-hot, index_add."""
    return causal(transformers.MixtralConfig(**TEXT, **GROUPED, num_local_experts=4, num_experts_per_tok=2))


def mamba() -> tuple[Any, Callable[[], dict]]:
    """A state space model: causal convolution and a scan over time."""
    return causal(transformers.MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4))


def t5() -> tuple[Any, Callable[[], dict]]:
    """Relative position buckets, encoder and decoder."""
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    configuration = transformers.T5Config(vocab_size=VOCABULARY, **sizes, decoder_start_token_id=0)
    return transformers.T5ForConditionalGeneration(configuration), text_to_text


def bart() -> tuple[Any, Callable[[], dict]]:
    """Learned positions, cross attention."""
    configuration = transformers.BartConfig(
        **SEQUENCE_TO_SEQUENCE, activation_function=GELU, max_position_embeddings=64
    )
    return transformers.BartForConditionalGeneration(configuration), text_to_text


def vit() -> tuple[Any, Callable[[], dict]]:
    """Patches by convolution, class token."""
    configuration = transformers.ViTConfig(**VISION, **HEADS, hidden_act=GELU, num_labels=3)
    model = transformers.ViTForImageClassification(configuration)
    return model, lambda: {"pixel_values": images(), "labels": classes()}


def resnet() -> tuple[Any, Callable[[], dict]]:
    """Convolution, batch normalisation with running statistics, pooling."""
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    model = transformers.ResNetForImageClassification(transformers.ResNetConfig(**sizes, num_labels=3))
    return model, lambda: {"pixel_values": images(), "labels": classes()}


def whisper() -> tuple[Any, Callable[[], dict]]:
    """Speech to text: one-dimensional convolution over a spectrogram."""
    sizes = {"num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 32}
    suppressed = {"suppress_tokens": [], "begin_suppress_tokens": []}
    configuration = transformers.WhisperConfig(**SEQUENCE_TO_SEQUENCE, **sizes, **suppressed, activation_function=GELU)
    model = transformers.WhisperForConditionalGeneration(configuration)
    return model, lambda: {"input_features": torch.randn(BATCH, 8, 40), "labels": tokens(8)}


def wav2vec2_ctc() -> tuple[Any, Callable[[], dict]]:
    """Raw waves, group norm, weight norm, connectionist temporal classification."""
    features = {"conv_dim": (16, 16), "conv_kernel": (10, 3), "conv_stride": (5, 2), "num_feat_extract_layers": 2}
    positions = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    activations = {"hidden_act": GELU, "feat_extract_activation": GELU}
    configuration = transformers.Wav2Vec2Config(
        **TEXT | {"vocab_size": 20}, **HEADS, **features, **positions, **activations, mask_time_prob=0, layerdrop=0
    )
    model = transformers.Wav2Vec2ForCTC(configuration)
    return model, lambda: {"input_values": torch.randn(BATCH, 400), "labels": tokens(5, 1, 20)}


def clip() -> tuple[Any, Callable[[], dict]]:
    """Two towers with a contrastive loss."""
    text = TEXT | HEADS | {"max_position_embeddings": 16, "eos_token_id": 2, "bos_token_id": 1}
    configuration = transformers.CLIPConfig(text_config=text, vision_config=VISION | HEADS, projection_dim=16)
    model = transformers.CLIPModel(configuration)
    return model, lambda: {"input_ids": tokens(8), "pixel_values": images(), "return_loss": True}


MODELS: dict[str, Callable[[], tuple[Any, Callable[[], dict]]]] = {
    model.__name__: model
    for model in (bert, gpt2, llama, qwen3, mixtral, mamba, t5, bart, vit, resnet, whisper, wav2vec2_ctc, clip)
}


def train(name: str, device: str) -> dict[str, torch.Tensor]:
    """Trains a model for `STEPS` steps of AdamW with clipping and no dropout; returns state dict and losses (CPU).

    AdamW's eps is large, so that an element whose gradient is rounding noise does not move by the learning rate.
    """
    torch.manual_seed(0)
    model, batch = MODELS[name]()
    batches = [batch() for _ in range(STEPS)]
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for attribute in ("dropout", "attention_dropout", "activation_dropout"):
            if isinstance(getattr(module, attribute, None), float):
                setattr(module, attribute, 0.0)
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, eps=1e-2)
    losses = []
    for values in batches:
        on_device = {key: value.to(device) if torch.is_tensor(value) else value for key, value in values.items()}
        loss = model(**on_device).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert {parameter.device.type for parameter in model.parameters()} == {device}
    weights = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
    return weights | {"loss": torch.tensor(losses, dtype=torch.float64)}


def main(device: str, folder: Path, names: list[str]) -> int:
    """Trains each model in a forked process; returns 0, or 1 where one of them failed."""
    failed = False
    for name in names:
        child = os.fork()
        if child == 0:
            try:
                save_file(train(name, device), folder / f"{name}.safetensors")
                sys.stderr.flush()
                os._exit(0)
            except BaseException:  # this process is to end here, whatever happened
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
        _, status = os.waitpid(child, 0)
        if status != 0:
            sys.stderr.write(f"{name} on {device}: ended with {os.waitstatus_to_exitcode(status)}\n")
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))

"""Flash attention on the NPU sees the tokens before a model's sliding window. Run it where torch_npu works."""

import sys

import torch
from transformers import MistralConfig, MistralForCausalLM

config = MistralConfig(
    vocab_size=50,
    hidden_size=64,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    initializer_range=0.5,
    sliding_window=4,
)
torch.manual_seed(0)
model = MistralForCausalLM(config).half().npu().eval()
tokens = torch.randint(50, (1, 24)).npu()
other = torch.cat([(tokens[:, :4] + 1) % 50, tokens[:, 4:]], dim=1)  # tokens that the last ones cannot see
changes = {}
for attention in ("eager", "sdpa", "flash_attention_2"):
    model.set_attn_implementation(attention)
    with torch.no_grad():
        last = [model(input_ids=ids).logits[0, -1].float().cpu() for ids in (tokens, other)]
    changes[attention] = (last[0] - last[1]).abs().max().item()
print("change of the last token's logits when tokens before its window change:", changes)
if changes["flash_attention_2"] == 0:
    print("NOT OBSERVED")
    sys.exit(1)
print(
    "OBSERVED: flash_attention_2 ignores sliding_window; eager and sdpa do not:",
    changes["eager"] == changes["sdpa"] == 0,
)

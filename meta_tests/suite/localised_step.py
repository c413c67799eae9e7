"""One training step of a small BERT under a Replay; prints the operators that deviate, and what the first one calls.

Arguments: the probability of dropout, and the precision ("no", "fp16"). A faulty card is the caller's business.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path

import torch

from fixtures import models
from fixtures.localisation import snippet
from fixtures.localisation.replay import Replay

dropout, precision = float(sys.argv[1]), sys.argv[2]
torch.manual_seed(0)
model = models.bert_classifier(dropout=dropout, seed=0).to("npu")
ids = torch.randint(0, 200, (4, 16)).npu()
mask = torch.ones_like(ids)
mask[0, 10:] = 0
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
half = torch.autocast("npu", torch.float16) if precision == "fp16" else contextlib.nullcontext()
with Replay() as replay:
    with half:
        loss = model(input_ids=ids, attention_mask=mask, labels=torch.tensor([0, 1, 0, 1]).npu()).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

said = {"replayed": replay.replayed, "unknown": list(replay.unknown)}
said["deviations"] = [deviation.facts() for deviation in replay.deviations]
if replay.deviations:
    with tempfile.TemporaryDirectory() as directory:
        alone = snippet.run_alone(replay.deviations[0].call, Path(directory))
    said.update(calls=alone.calls, reproduces=alone.reproduces, snippet=alone.text, said=alone.said)
sys.stdout.write(json.dumps(said) + "\n")

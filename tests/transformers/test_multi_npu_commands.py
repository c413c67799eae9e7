"""The guides' commands for several cards: run_glue.py by torch.distributed.launch, the example by accelerate launch."""

import json

import pytest

from fixtures.options import RUN_GLUE
from fixtures.requirement import requirement
from fixtures.workloads import local_files, scripts

pytestmark = [pytest.mark.multi_npu, pytest.mark.cli]

RANKS = 2


@pytest.fixture
def files(tmp_path):
    """Model directory and data files for the commands."""
    return local_files.make(tmp_path)


@requirement("transformers/run-glue-on-several-cards", level="core")
def test_run_glue_on_several_cards(request, ranks, files, reference, evidence, tmp_path):
    """The guide's command for several cards trains and evaluates with the losses that two ranks of the CPU get."""
    examples = request.config.getoption("transformers_examples")
    script = [examples / RUN_GLUE] if examples else [scripts.RUN_GLUE, "--task_name", "mrpc"]
    output = tmp_path / "out"

    completed = ranks.module(
        *script, *scripts.run_glue_arguments(files, output), world_size=RANKS, launcher="torch.distributed.launch",
        deadline=500,
    ).check()  # fmt: skip

    measured, expected = scripts.run_glue_results(output), reference(scripts.RunGlue(ranks=RANKS), "float32")
    evidence.add(metrics=measured.metrics)
    evidence.check_equal("processes that computed on a card", completed.npu.processes, RANKS)
    evidence.check_curve("training loss", measured.losses, expected.losses)
    evidence.check_curve("evaluation loss", [measured.metrics["eval_loss"]], [expected.metrics["eval_loss"]])
    evidence.check_equal("accuracy", measured.metrics["eval_accuracy"], expected.metrics["eval_accuracy"])


@requirement("accelerate/nlp-example-on-several-cards", level="core")
@pytest.mark.parametrize(
    ("launcher", "precision"),
    [("accelerate", "no"), pytest.param("accelerate, fp16", "fp16", marks=pytest.mark.fp16)],
    ids=["no", "fp16"],
)
def test_nlp_example_on_several_cards(ranks, files, reference, evidence, tmp_path, launcher, precision):
    """With the guide's MULTI_NPU configuration file the example follows one process that has the global batch."""
    report = tmp_path / "report.json"

    arguments = scripts.nlp_example_arguments(files, report)
    completed = ranks.module(scripts.NLP_EXAMPLE, *arguments, world_size=RANKS, launcher=launcher, deadline=500).check()

    measured, expected = json.loads(report.read_text()), reference(scripts.NlpExample(batch=16 * RANKS), "float32")
    evidence.add(**{name: value for name, value in measured.items() if name != "losses"})
    wanted = {"device": "npu:0", "distributed_type": "MULTI_NPU", "num_processes": RANKS, "mixed_precision": precision}
    evidence.check_equal("configuration", {name: measured[name] for name in wanted}, wanted)
    evidence.check_equal("processes that computed on a card", completed.npu.processes, RANKS)
    policy = "fp32" if precision == "no" else precision
    evidence.check_curve("training loss", measured["losses"], expected.losses, policy)
    evidence.check_below("accuracy less than that of one process", expected.metrics["accuracy"] - measured["accuracy"],
                         0.05, "3 of 64 pairs")  # fmt: skip

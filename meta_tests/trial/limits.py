"""Detection limits: the smallest error, as a factor on all results of a family of operators, that the suite catches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meta_tests.trial import forks, targeted
from meta_tests.trial.catalogue import tests_of
from reports.outcome import FAILURES, Outcome

SMALLEST, LARGEST, RATIO = 2.0**-24, 0.5, 1.5  # of factor - 1; found to within RATIO


@dataclass(frozen=True)
class Family:
    """Operators whose results are scaled together, and the requirements that look at them."""

    name: str
    patterns: tuple[str, ...]
    requirements: tuple[str, ...]
    selector: str = ""

    def line(self, factor: float) -> str:
        """NPU_EMULATOR_FAULTS."""
        return ";".join(f"{pattern}:scale={factor:.9g}{self.selector}" for pattern in self.patterns)


PRODUCTS = ("aclnnMm", "aclnnMatmul", "aclnnAddmm", "aclnnBatchMatMul")
FAMILIES = (
    Family("matrix products, fp32", PRODUCTS, ("runtime/operators-matmul[fp32]",)),
    Family("matrix products, fp32, in a training", PRODUCTS, ("transformers/trainer-first-gradients",)),
    Family("matrix products, fp16", PRODUCTS, ("runtime/operators-matmul[fp16]",), "@dtype=fp16"),
    Family("matrix products, bf16", PRODUCTS, ("runtime/operators-matmul[bf16]",), "@dtype=bf16"),
    Family("layer normalisation, forward", ("aclnnLayerNorm",), ("runtime/operators-normalisation[fp32]",)),
    Family("layer normalisation, backward", ("aclnnLayerNormBackward",), ("runtime/operators-normalisation[fp32]",)),
    Family(
        "layer normalisation, backward, in a training",
        ("aclnnLayerNormBackward",),
        ("transformers/trainer-first-gradients",),
    ),
    Family("softmax", ("aclnnSoftmax",), ("runtime/operators-softmax[fp32]",)),
    Family("log softmax", ("aclnnLogSoftmax",), ("runtime/operators-losses[fp32]", "runtime/operators-softmax[fp32]")),
    Family("fused attention, fp32", ("aclnnFlashAttentionScore*",), ("transformers/attention-step[sdpa-float32]",)),
    Family("fused attention, fp16", ("aclnnFlashAttentionScore*",), ("transformers/attention-step[sdpa-float16]",)),
    Family("activations", ("aclnnGelu*", "aclnnSilu*"), ("runtime/operators-activations[fp32]",)),
    Family("embedding, backward", ("aclnnEmbeddingDenseBackward",), ("runtime/operators-embedding[fp32]",)),
    Family("losses", ("aclnnNLLLoss*", "aclnnMseLoss*"), ("runtime/operators-losses[fp32]",)),
    Family("sums and means", ("aclnnReduceSum", "aclnnMean"), ("runtime/operators-reductions[fp32]",)),
    Family("convolution (HF32 is allowed)", ("aclnnConvolution*",), ("runtime/operators-convolution[fp32]",)),
    Family("Adam's second moment", ("aclnnForeachAddcmulScalarV2",), ("transformers/optimizer-adamw[fp32*]",)),
    Family("unscaling of gradients", ("aclnnForeachNonFiniteCheckAndUnscale",), ("runtime/scaler-unscales[torch]",)),
)


def bisect(
    store: targeted.Store, plan: targeted.Plan, families: Sequence[Family], jobs: int, say: Callable[[str], None]
) -> list[dict]:
    """For each family the smallest factor caught and the largest that passed.

    Returns:
        For each: "name", "pattern" of the faults, "caught" and "passed" (factors), "by" (requirements that caught it).

    Raises:
        TrialError: a fault never fired, so that nothing was measured.
    """
    low, high = {f.name: SMALLEST for f in families}, {f.name: LARGEST * RATIO for f in families}
    by: dict[str, list[str]] = {f.name: [] for f in families}
    fired = Counter()
    owners = plan.owners
    while open_ := [f for f in families if high[f.name] / low[f.name] > RATIO]:
        runs, sizes = [], {}
        for number, family in enumerate(open_):
            size = math.sqrt(low[family.name] * high[family.name])
            tests = [test for entry in family.requirements for test in tests_of(entry, plan.tests)]
            made = plan.runs(f"limit-{number}", tests, {"NPU_EMULATOR_FAULTS": family.line(1 + size)})
            sizes.update({run.name: (family, size) for run in made})
            runs += made
        for ran in targeted.executed(store, runs, jobs):
            family, size = sizes[ran.run.name]
            red = sorted({owners[r.nodeid] for r in ran.results if Outcome(r.outcome) in FAILURES})
            fired[family.name] += ran.fired  # one that is smaller than what a dtype tells apart changes nothing
            (high if red else low)[family.name] = size
            by[family.name] = red or by[family.name]
            say(f"{'caught' if red else 'passed':9} {family.name}: 1 + {size:.3g}")
    for family in families:
        if not fired[family.name]:
            raise forks.TrialError(f"{family.line(2)} never fired in {', '.join(family.requirements)}")
    return [
        {
            **{"name": family.name, "pattern": family.line(2).replace("scale=2", "scale=X"), "by": by[family.name]},
            "caught": f"1 + {high[family.name]:.2g}" if high[family.name] <= LARGEST else "none",
            "passed": f"1 + {low[family.name]:.2g}" if low[family.name] > SMALLEST else "none",
        }
        for family in families
    ]

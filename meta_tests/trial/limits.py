"""Detection limits: the smallest error, as a factor on all results of a family of operators, that the suite catches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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


def bounds(limits: Sequence[Mapping]) -> dict[str, tuple[float, float]]:
    """By family: the largest factor - 1 that passed and the smallest caught, of what ``bisect`` has found."""
    ends = {"passed": SMALLEST, "caught": LARGEST * RATIO}  # of what is "none"
    return {
        one["name"]: tuple(
            ends[end] if one[end] == "none" else float(one[end].removeprefix("1 + ")) for end in ("passed", "caught")
        )
        for one in limits
    }


def sizes_to_try(low: float, high: float, known: tuple[float, float] | None) -> list[float]:
    """The sizes that are asked next, between the largest that passed and the smallest caught.

    What an earlier trial found is asked again first, both ends at a time: where it still holds nothing else need be.
    """
    told = [size for size in known or () if low < size < high]
    return told or ([math.sqrt(low * high)] if high / low > RATIO else [])


def bisect(
    store: targeted.Store,
    plan: targeted.Plan,
    families: Sequence[Family],
    jobs: int,
    say: Callable[[str], None],
    known: Mapping[str, tuple[float, float]] | None = None,
) -> list[dict]:
    """For each family the smallest factor caught and the largest that passed.

    Args:
        known: what an earlier trial found, as ``bounds`` gives it; where bisection begins.

    Returns:
        For each: "name", "pattern" of the faults, "caught" and "passed" (factors), "by" (requirements that caught it).

    Raises:
        TrialError: a fault never fired, so that nothing was measured.
    """
    low, high = {f.name: SMALLEST for f in families}, {f.name: LARGEST * RATIO for f in families}
    by: dict[str, list[str]] = {f.name: [] for f in families}
    fired = Counter()
    owners = plan.owners
    started = known or {}
    while asked := [
        (f, size) for f in families for size in sizes_to_try(low[f.name], high[f.name], started.get(f.name))
    ]:
        runs, sizes = [], {}
        for number, (family, size) in enumerate(asked):
            tests = [test for entry in family.requirements for test in tests_of(entry, plan.tests)]
            made = plan.runs(f"limit-{number}", tests, {"NPU_EMULATOR_FAULTS": family.line(1 + size)})
            sizes.update({run.name: (family, size) for run in made})
            runs += made
        for ran in targeted.executed(store, runs, jobs):
            family, size = sizes[ran.run.name]
            red = sorted({owners[r.nodeid] for r in ran.results if Outcome(r.outcome) in FAILURES})
            fired[family.name] += ran.fired  # one that is smaller than what a dtype tells apart changes nothing
            end, nearer = (high, min) if red else (low, max)
            by[family.name] = red if red and size <= high[family.name] else by[family.name]
            end[family.name] = nearer(end[family.name], size)
            say(f"{'caught' if red else 'passed':9} {family.name}: 1 + {size:.3g}")
        started = {}
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

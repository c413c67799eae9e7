"""How often the operator that the suite names, when a training comparison fails, is the faulty one.

Each operator fault of the catalogue is put before trainings that call the operator, one after the other, until a
comparison fails. The evidence of that test then says which operator of CANN the suite blames.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from meta_tests.trial import forks, targeted
from meta_tests.trial.catalogue import Fault, tests_of
from reports.journal import FILE_NAME
from reports.outcome import FAILURES, Outcome

# Trainings that compare with the CPU, or with another way on the card, the cheapest first. Those of a group are run
# together to see which operators they call.
TRAININGS = (
    (
        *(f"transformers/model-step[{family}]" for family in ("llama", "gpt2", "bert", "t5", "vit", "resnet")),
        *(f"transformers/model-step[{family}]" for family in ("qwen3_moe", "mamba", "wav2vec2_ctc")),
        *("transformers/optimizer-adamw[fp32]", "transformers/optimizer-others[fp32]"),
    ),
    (
        *("transformers/model-step-half-precision[float16-qwen3]", "transformers/attention-padding[left-sdpa-float32]"),
        *("transformers/model-step-half-precision[bfloat16-mistral]", "transformers/attention-window[9-sdpa-float32]"),
    ),
    (
        *("transformers/eager-attention", "transformers/trainer-first-gradients", "transformers/fp16-first-gradients"),
        *("transformers/trainer-clipping[clipped]", "transformers/trainer-fused-adamw[fp32]"),
        "transformers/trainer-gradient-checkpointing[dropout]",
    ),
)
NAMED, ANOTHER, NONE, NOT_TRIED = "named", "another", "none", "not tried"
ENOUGH = 0.9  # share of the faults that a training showed whose operator must be named
ROUNDS = 3  # trainings of a group that a fault is put before, at most


@dataclass(frozen=True)
class Named:
    """What the suite said of one fault.

    Attributes:
        fault, family, line: of the catalogue.
        status: "named" where an operator of the line is among the operators of CANN that the blamed one calls;
            "another" where it is not; "none" where no operator deviated by itself; "not tried" where the comparison
            failed and nothing was said.
        test: the node id of the training whose comparison failed.
        operator, calls, module, reproduces: from the evidence, see fixtures/localisation.
        said: why nothing was named, or "".
    """

    fault: str
    family: str
    line: str
    status: str
    test: str
    operator: str = ""
    calls: tuple[str, ...] = ()
    module: str = ""
    reproduces: bool | None = None
    said: str = ""


def patterns(line: str) -> list[str]:
    """The patterns of names in NPU_EMULATOR_FAULTS."""
    return [part.strip().partition(":")[0] for part in line.split(";")]


def watching(line: str) -> str:
    """A line that fires on the same calls and changes nothing."""
    parts = [part.strip().partition(":") for part in line.split(";")]
    selectors = [actions.partition("@")[2] for _, _, actions in parts]
    return ";".join(
        f"{pattern}:delay=0{'@' + selector if selector else ''}"
        for (pattern, _, _), selector in zip(parts, selectors, strict=True)
    )


def of_operators(faults: Sequence[Fault]) -> list[Fault]:
    """The silent faults that are of operators alone."""
    return [
        fault
        for fault in faults
        if fault.line
        and not fault.loud
        and not fault.environment
        and all(p.startswith("aclnn") for p in patterns(fault.line))
    ]


def measure(
    store: targeted.Store, plan: targeted.Plan, faults: Sequence[Fault], jobs: int, say: Callable[[str], None]
) -> dict:
    """Puts each operator fault before trainings. Returns the figures and what was said of each fault.

    Raises:
        TrialError: a training fails on honest cards, where calls are only counted.
    """
    chosen = [fault for fault in of_operators(faults) if plan.of_one_card(fault)]
    called: set[str] = set()
    found: dict[str, Named] = {}
    for number, group in enumerate(TRAININGS):
        left = [fault for fault in chosen if fault.id not in found]
        if not left:
            break
        trainings = [test for entry in group for test in tests_of(entry, plan.tests)]
        callers = _callers(store, number, left, trainings, say)
        called.update(id for id, tests in callers.items() if tests)
        waiting = {fault.id: [test for test in trainings if test in callers[fault.id]][:ROUNDS] for fault in left}
        while open_ := [fault for fault in left if waiting[fault.id] and fault.id not in found]:
            runs = {}
            for fault in open_:
                test = waiting[fault.id].pop(0)
                name = f"localise-{fault.id}-{number}-{trainings.index(test)}"
                environment = {**targeted.SINGLE, "NPU_EMULATOR_FAULTS": fault.line}
                runs[name] = fault, forks.Run(name, (test,), environment, deadline=fault.deadline, localised=True)
            for run, said in _answers(store, runs, jobs):
                if said:
                    found[said.fault] = said
                    say(f"{said.status:9} {said.fault}: {said.operator} ({', '.join(said.calls)}) {said.said}")
                else:
                    say(f"green     {runs[run.name][0].id}: {run.tests[0]}")
    return figures(chosen, called, list(found.values()))


def figures(chosen: Sequence[Fault], called: Collection[str], found: Sequence[Named]) -> dict:
    """The share of faults that were named, of those that made a training's comparison fail.

    ``called``: ids of the faults that fire in some training.
    """
    killed = {one.fault for one in found}
    families: dict[str, dict[str, int]] = {}
    for one in found:
        counted = families.setdefault(one.family, {"killed": 0, "named": 0, "alone": 0, "reproduced": 0})
        counted["killed"] += 1
        counted["named"] += one.status == NAMED
        counted["alone"] += one.status == NAMED and len(one.calls) == 1
        counted["reproduced"] += one.status == NAMED and one.reproduces is True
    named = sum(one["named"] for one in families.values())
    return {
        "faults": len(chosen),
        "killed": len(found),
        "named": named,
        "share": round(named / len(found), 4) if found else None,
        "families": families,
        "found": [asdict(one) for one in found],
        "passed": [fault.id for fault in chosen if fault.id in called and fault.id not in killed],
        "uncalled": [fault.id for fault in chosen if fault.id not in called],
    }


def _callers(store, number: int, chosen: Sequence[Fault], trainings: Sequence[str], say) -> dict[str, set[str]]:
    """By fault: the trainings that make a call on which it fires."""
    lines = sorted({part for fault in chosen for part in watching(fault.line).split(";")})
    environment = {**targeted.SINGLE, "NPU_EMULATOR_FAULTS": ";".join(lines)}
    run = forks.Run(f"localise-calls-{number}", tuple(trainings), environment)
    (ran,) = forks.execute([run], store.directory / "work", store.references, 1)
    say(f"honest    {len(ran.results)} trainings in {ran.seconds:g} s")
    passed = {result.nodeid for result in ran.results if result.outcome == str(Outcome.PASS)}
    if red := [f"{r.outcome} {r.nodeid}: {r.reason}" for r in ran.results if r.outcome not in targeted.GREEN]:
        raise forks.TrialError("expected: green on honest cards; found:\n" + "\n".join(red))
    callers = {part: {result.nodeid for result in ran.results if part in result.fired} & passed for part in lines}
    return {fault.id: set().union(*(callers[part] for part in watching(fault.line).split(";"))) for fault in chosen}


def _answers(store, runs: Mapping, jobs: int) -> Iterator[tuple[forks.Run, Named | None]]:
    """What was said in each run, by name with its fault; what an earlier trial of the same sources left is kept."""
    files = {run.name: store.results / f"{store.key(run)}.named.json" for _, run in runs.values()}
    missing = []
    for _, run in runs.values():
        if not files[run.name].exists():
            missing.append(run)
            continue
        kept = json.loads(files[run.name].read_text(encoding="utf-8"))
        yield run, Named(**{**kept, "calls": tuple(kept["calls"])}) if kept else None
    for ran in forks.execute(missing, store.directory / "work", store.references, jobs):
        said = _said(store, runs[ran.run.name][0], ran)
        files[ran.run.name].write_text(json.dumps(said and asdict(said)), encoding="utf-8")
        yield ran.run, said


def _said(store, fault: Fault, ran: forks.Ran) -> Named | None:
    """What the evidence says, if the training's comparison failed; None if it did not."""
    (result,) = ran.results
    if Outcome(result.outcome) not in FAILURES or not result.called or result.outcome == str(Outcome.DEVICE_LOST):
        return None
    files = sorted((store.directory / "work" / ran.run.name).glob(f"*/run/{FILE_NAME}"))
    records = [record for file in files for record in _lines(file) if record["type"] == "test"]
    if not records or all(check["passed"] for check in records[-1]["checks"]):
        return None  # it raised, or something else than a comparison failed
    facts = next((one for one in reversed(records[-1]["findings"]) if one["kind"] == "localised"), None)
    common = {"fault": fault.id, "family": fault.family, "line": fault.line, "test": result.nodeid}
    if facts is None:
        return Named(**common, status=NOT_TRIED, said=result.reason.strip().splitlines()[0])
    if not facts.get("operator"):
        return Named(**common, status=NONE, said=facts.get("failed", f"none of {facts.get('replayed')} deviates"))
    calls = tuple(facts["calls"])
    right = any(fnmatch.fnmatchcase(call, pattern) for call in calls for pattern in patterns(fault.line))
    return Named(
        **common,
        status=NAMED if right else ANOTHER,
        operator=facts["operator"],
        calls=calls,
        module=facts["module"],
        reproduces=facts["reproduces"],
        said="" if right else facts["said"],
    )


def _lines(file) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []

"""Noise that real hardware may show: no false alarm, and the same faults caught under it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from meta_tests.trial import forks, matrix, targeted
from meta_tests.trial.catalogue import Fault
from reports.outcome import FAILURES, Outcome

# The strengths that hardware may show (emulator/README.md has the settings). Half precision outputs are rounded after
# float32 accumulation in all of them, and a result close to a tie may fall to the other side.
STRENGTHS = {
    "ulp=1,reorder": "float32 sums in another order; exp, tanh, gelu, ... off by 1 unit in the last place",
    "ulp=2,reorder": "float32 sums in another order; exp, tanh, gelu, ... off by up to 2 units in the last place",
    "ulp=2,reorder,hf32": "the same, and HF32 (10 bits of mantissa) where torch_npu allows it: in convolutions",
}
STRONGEST = "ulp=2,reorder,hf32"


def clean_runs(
    store: targeted.Store,
    plan: targeted.Plan,
    faults: Sequence[Fault],
    known: Mapping[str, str],
    strengths: Sequence[str],
    seeds: range,
    jobs: int,
    say: Callable[[str], None],
) -> list[dict]:
    """Runs the tests of one card that the catalogue names on cards that are noisy and otherwise honest.

    Args:
        known: by node id: outcomes on cards without noise.

    Returns:
        For each strength: "noise", "what", "runs", "seeds" (the first and the last), "green", "tests" in a run,
        "alarms" (red results by test), and "families": the number of green runs by family, of its own tests alone.
    """
    several = {test["nodeid"] for test in plan.tests if test["multi"]}
    of_family: dict[str, set[str]] = {}
    for fault in faults:
        of_family.setdefault(fault.family, set()).update(set(plan.of(fault)) - several)
    wanted = set().union(*of_family.values())
    tests = [t["nodeid"] for t in plan.tests if t["nodeid"] in wanted and known.get(t["nodeid"]) == str(Outcome.PASS)]
    found = []
    for strength in strengths:
        runs = {}
        for seed in seeds:
            environment = {"NPU_EMULATOR_NOISE": f"{strength},seed={seed}"}
            name = f"noise-{strength.replace(',', '-').replace('=', '')}-{seed}"
            for part, chunk in enumerate(forks.chunks(tests, jobs)):
                runs.update({run.name: (seed, run) for run in plan.runs(f"{name}-{part}", chunk, environment)})
        red: dict[int, set[str]] = {seed: set() for seed in seeds}
        for ran in targeted.executed(store, [run for _, run in runs.values()], jobs):
            alarms = {result.nodeid for result in ran.results if Outcome(result.outcome) in FAILURES}
            red[runs[ran.run.name][0]] |= alarms
            verdict = f"ALARM {', '.join(sorted(alarms))}" if alarms else "green"
            say(f"{ran.run.name}: {len(ran.results)} tests, {verdict}")
        green = {family: sum(not (own & red[seed]) for seed in red) for family, own in of_family.items()}
        alarms = Counter(test for tests_of_run in red.values() for test in tests_of_run)
        found.append(
            {
                **{
                    "noise": strength,
                    "what": STRENGTHS[strength],
                    "runs": len(seeds),
                    "seeds": [seeds[0], seeds[-1]],
                    "green": sum(not one for one in red.values()),
                },
                **{"tests": len(tests), "alarms": dict(alarms), "families": green},
            }
        )
    return found


def under_noise(
    store: targeted.Store,
    plan: targeted.Plan,
    faults: Sequence[Fault],
    known: Mapping[str, str],
    first: int,
    jobs: int,
    say: Callable[[str], None],
) -> dict[str, dict]:
    """Whether faults of one card are caught on a noisy card, too, with four seeds in turn, from the ``first``.

    Args:
        known: by node id: outcomes on cards without noise.
        first: the first of the seeds.

    Returns:
        By family: "faults", "killed", and the ids of those that "survived".
    """
    found: dict[str, dict] = {}
    for number in range(4):
        chosen = faults[number::4]
        more = {"NPU_EMULATOR_NOISE": f"{STRONGEST},seed={first + number}"}
        for row in targeted.trial(store, plan, chosen, jobs, say, more, known):
            counted = found.setdefault(row.fault.family, {"faults": 0, "killed": 0, "survived": []})
            counted["faults"] += 1
            counted["killed"] += row.status in (matrix.KILLED, matrix.MISSED)
            if row.status not in (matrix.KILLED, matrix.MISSED):
                counted["survived"].append(row.fault.id)
    return found

"""Puts the suite on trial on emulated cards that lie: which faults does it catch, and which noise does it bear?"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

from meta_tests.trial import catalogue, page, record

ROOT = Path(__file__).parents[2]
MARK = "NPU_CONFORMANCE_TRIAL"  # in the environment of all that belongs to a trial; see forks.py
COMMANDS = {
    "run": "run the requirements under each fault and write the kill matrix (the default)",
    "noise": "noisy honest cards give no alarm; faults are caught under noise, too",
    "limits": "the smallest errors that are caught, by bisection",
    "localisation": "how often a failed training names the operator that is faulty",
    "sweep": "every operator that the suite calls lies in the same few ways: which may be wrong unnoticed?",
    "unnamed": "list the requirements that no fault of the catalogue names",
    "page": "write the page anew from the results that are there",
    "record": "take what DIR has into docs/trial.json, and the tables of docs/TRIAL.md",
}


def parse(words: list[str]) -> argparse.Namespace:
    """Parses the command line; exits with a message and code 2 where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m meta_tests.trial",
        description=f"{__doc__} docs/TRIAL.md explains what is measured.",
        epilog="\n".join(f"  {name:12} {what}" for name, what in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", nargs="?", default="run", choices=COMMANDS, help="see below")
    parser.add_argument(
        "--faults", default="*", metavar="GLOB", help="ids or families, several by commas (default: all)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="runs at a time")
    parser.add_argument("--full", action="store_true", help="the whole suite under each fault, for a nightly machine")
    parser.add_argument("--resume", action="store_true", help="go on: keep what DIR has of the same sources")
    parser.add_argument(
        "--honest", type=Path, metavar="RUN",
        help="the directory of a run of the suite of these sources on honest cards, whose tests need not run again",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="noise: seeds of each strength (default 20)")
    parser.add_argument("--first-seed", type=int, default=0, metavar="N", help="noise: the first of the seeds")
    parser.add_argument("--strongest", action="store_true", help="noise: the strongest alone, which contains the first")
    parser.add_argument("--operators", default="*", metavar="GLOB", help="sweep: of operators (default: all)")
    parser.add_argument("--lies", default="*", metavar="GLOB", help="sweep: scale=1.05, zero, tail=1, stale")
    parser.add_argument("--tests", default="*", metavar="GLOB", help="sweep: node ids, several by commas")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "trial", metavar="DIR", help="default: runs/trial")
    options = parser.parse_args(words)
    for name in ("jobs", "seeds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)}: expected 1 or more")
    if options.first_seed < 0:
        parser.error(f"--first-seed {options.first_seed}: expected 0 or more")
    return options


def say(line: str) -> None:
    """A line of progress."""
    print(line, flush=True)  # noqa: T201


def complain(error: Exception) -> int:
    """Says what is wrong; returns the exit code of a trial that could not be held."""
    print(f"trial: {error}", file=sys.stderr)  # noqa: T201
    return 2


def main(words: list[str]) -> int:
    """Returns the exit code: 0 where everything is as it must be, 1 where not, 2 where the trial could not be held."""
    options = parse(words)
    if options.command == "page":
        return write_page(options.out)
    try:
        if options.command == "record":
            return write_record(options.out)
        faults = catalogue.read().matching(options.faults)
        if not faults:
            raise catalogue.CatalogueError(
                f"--faults {options.faults}: no fault and no family of that name in faults.toml"
            )
    except catalogue.CatalogueError as error:
        return complain(error)
    if MARK not in os.environ:
        os.chdir(ROOT)
        command = [sys.executable, "-m", "emulator", sys.executable, "-m", "meta_tests.trial", *words]
        # The libraries ask how many cards there are when they are imported, and remember it.
        os.execve(sys.executable, command, {**os.environ, "NPU_EMULATOR_CARDS": "1", MARK: "here"})
    from fixtures import environment

    environment.prepare()
    from meta_tests.trial import forks

    try:
        return hold(options, faults)
    except (forks.TrialError, catalogue.CatalogueError) as error:
        return complain(error)


def hold(options: argparse.Namespace, faults) -> int:
    """Holds the trial in this process, which has the emulator's environment. Returns the exit code."""
    from meta_tests.trial import forks, targeted

    began = time.monotonic()
    tests = forks.collect()
    plan = targeted.plan([] if options.command == "sweep" else faults, tests, options.full)
    if options.command == "unnamed":
        named = {plan.owners[node] for wanted in plan.wanted.values() for nodes in wanted.values() for node in nodes}
        levels = {test["requirement"]: test["level"] for test in tests}
        for id in sorted(levels, key=lambda id: (levels[id], id)):
            if id not in named:
                say(f"{levels[id]:8} {id}")
        return 0
    forks.warm_up()
    store = targeted.Store(options.out.absolute(), options.resume or options.command != "run")
    say(f"{len(faults)} faults, {len(tests)} tests in the suite; warm after {time.monotonic() - began:.0f} s")
    if options.command == "noise":
        return noise(options, plan, store, faults)
    if options.command == "limits":
        return limits(options, plan, store)
    if options.command == "localisation":
        return localisation(options, plan, store, faults)
    if options.command == "sweep":
        return sweep(options, plan, store)
    known = targeted.outcomes_of(options.honest) if options.honest else None
    rows = targeted.trial(store, plan, faults, options.jobs, say, known=known)
    report = targeted.report(plan, rows, time.monotonic() - began, options.jobs)
    counts = Counter(row.status for row in rows)
    say(f"{', '.join(f'{count} {status}' for status, count in counts.items())}, in {report['seconds']:g} s")
    code = write(store.directory, page.TRIAL, report)
    bad = [row.fault.id for row in rows if row.status != "killed" and not row.fault.survives]
    core = [id for id in report["unproven"] if report["requirements"][id]["level"] == "core"]
    if options.faults == "*" and core:
        say(f"core requirements without a kill: {', '.join(core)}")
    return 1 if bad or (core and options.faults == "*") else code


def noise(options: argparse.Namespace, plan, store, faults) -> int:
    """Runs honest cards with noise, and the silent faults of one card again under noise."""
    from meta_tests.trial import noise as noisy
    from meta_tests.trial import targeted

    chosen = [
        fault
        for fault in faults
        if not (fault.loud or fault.patch or fault.environment or fault.survives) and plan.of_one_card(fault)
    ]
    strengths = [noisy.STRONGEST] if options.strongest else list(noisy.STRENGTHS)
    known = {test: outcome for (_, test), outcome in targeted.honest(store, plan, chosen, options.jobs, say).items()}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    clean = noisy.clean_runs(store, plan, chosen, known, strengths, seeds, options.jobs, say)
    write(store.directory, page.NOISE, {"clean": clean, "under": noisy.STRONGEST, "families": {}})
    families = noisy.under_noise(store, plan, chosen, known, options.first_seed, options.jobs, say)
    write(store.directory, page.NOISE, {"clean": clean, "under": noisy.STRONGEST, "families": families})
    return int(any(one["alarms"] for one in clean) or any(one["survived"] for one in families.values()))


def limits(options: argparse.Namespace, plan, store) -> int:
    """Finds the detection limits."""
    from meta_tests.trial import limits as sizes

    known = sizes.bounds((record.read()["limits"] or {}).get("limits", []))
    found = sizes.bisect(store, plan, sizes.FAMILIES, options.jobs, say, known)
    return write(store.directory, page.LIMITS, {"limits": found})


def localisation(options: argparse.Namespace, plan, store, faults) -> int:
    """Measures how often the operator that is named is the faulty one."""
    from meta_tests.trial import localisation as naming

    found = naming.measure(store, plan, faults, options.jobs, say)
    say(f"{found['named']} of {found['killed']} faults that a training showed were named, of {found['faults']} in all")
    code = write(store.directory, page.LOCALISATION, found)
    return code if found["killed"] and found["share"] >= naming.ENOUGH else 1


def sweep(options: argparse.Namespace, plan, store) -> int:
    """Has every operator lie that the tests of one card call. Exit code 1 where one survives."""
    from meta_tests.trial import sweep as sweeping

    chosen = sweeping.lies_named(options.lies)
    called = sweeping.callers(store, plan, sweeping.operators(options.operators), options.jobs, say, options.tests)
    found = sweeping.report(sweeping.sweep(store, plan, called, options.jobs, say, chosen))
    for one in found["lies"]:
        say(f"{one['what']}: {one['killed']} killed, {one['survived']} survived, {one['not fired']} not fired")
    return write(store.directory, page.SWEEP, found) or int(any(one["survived"] for one in found["lies"]))


def write(directory: Path, name: str, content: dict) -> int:
    """Writes a result, and the page where there is a trial."""
    (directory / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    say(str(directory / name))
    return write_page(directory) if (directory / page.TRIAL).exists() else 0


def write_page(directory: Path) -> int:
    """Writes the page."""
    if not (directory / page.TRIAL).exists():
        return complain(
            ValueError(f"{directory / page.TRIAL} is not there; hold a trial first: python -m meta_tests.trial")
        )
    say(str(page.write(directory)))
    return 0


def write_record(directory: Path) -> int:
    """Takes the results of a directory into the shipped record, and that into its page."""
    found = {name: directory / f"{name}.json" for name in ("trial", *record.MEASURED)}
    found = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in found.items() if file.exists()}
    if not found:
        return complain(ValueError(f"{directory} has no results; hold a trial first: python -m meta_tests.trial"))
    known, whole = record.read(), catalogue.read()
    if "trial" in found:
        known = record.updated(known, found.pop("trial"), whole.faults)
    known |= {name: record.shortened(name, measured) for name, measured in found.items()}
    record.FILE.write_text(record.text(known), encoding="utf-8")
    page_of = record.page(record.PAGE.read_text(encoding="utf-8"), known, whole.families, whole.faults)
    record.PAGE.write_text(page_of, encoding="utf-8")
    say(f"{record.FILE}: {len(known['faults'])} of {len(whole.faults)} faults")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

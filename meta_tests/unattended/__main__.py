"""Measures what a run that nobody watches survives and how busy it keeps its cards, and shows what the doctor says."""

from __future__ import annotations

import argparse
import fnmatch
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from fixtures.doctor.__main__ import examine, lines
from meta_tests import boxes
from meta_tests.generated import between
from meta_tests.projects import ROOT
from meta_tests.unattended import scheduling, tries
from meta_tests.unattended.interruptions import INTERRUPTIONS, Interruption

PAGE = ROOT / "docs" / "UNATTENDED.md"
MARKS = "<!-- {name}: by python -m meta_tests.unattended {name} --record -->\n", "<!-- end -->\n"
COMMANDS = ("interruptions", "scheduling", "doctor")
BOXES = {
    "Healthy": {},
    "The driver is missing": {"driver": False},
    "CANN is not sourced": {"sourced": False},
    "Versions that do not belong together": {"cann": "8.2.RC1", "versions": {"torch": "2.8.0"}},
    "All cards are busy": {"tables": boxes.smi(busy=2)},
}
HEAD = {
    "interruptions": ["what happens", "tried", "tests that did not pass", "seconds to recovery", "lost", "left behind"],
    "scheduling": ["cards", "tests", "longest", "all tests / cards", "run", "kept busy"],
}


def main(words: Sequence[str]) -> int:
    """Returns the exit code: 0 where everything is as it must be, 1 where not."""
    parser = argparse.ArgumentParser(prog="python -m meta_tests.unattended", description=__doc__, allow_abbrev=False)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--record", action="store_true", help=f"write the table into {PAGE.relative_to(ROOT)}")
    parser.add_argument("--only", default="*", metavar="GLOB", help="interruptions: ids (default: all)")
    parser.add_argument("--tries", type=int, default=3, metavar="N", help="interruptions: how often (default: 3)")
    parser.add_argument("--cards", default="8,16", metavar="N,...", help="scheduling: cards (default: 8,16)")
    parser.add_argument(
        "--work", type=float, default=500.0, metavar="SECONDS", help="scheduling: of each card, about (default: 500)"
    )
    options = parser.parse_args(words)
    if options.tries < 1:
        parser.error(f"--tries {options.tries}: expected 1 or more")
    chosen = [one for one in INTERRUPTIONS if fnmatch.fnmatchcase(one.id, options.only)]
    if not chosen:
        parser.error(f"--only {options.only}: expected ids of {', '.join(one.id for one in INTERRUPTIONS)}")
    if options.record and options.command == "interruptions" and len(chosen) < len(INTERRUPTIONS):
        parser.error(f"--only {options.only} --record: the page has a table of all; leave one of the two out")
    if not all(count.isdigit() and 1 <= int(count) <= 32 for count in options.cards.split(",")):
        parser.error(f"--cards {options.cards}: expected numbers from 1 to 32, with commas between them")
    if options.command == "interruptions":
        rows, good = interrupted(chosen, options.tries)
        found = table(HEAD["interruptions"], rows)
    elif options.command == "scheduling":
        rows, good = kept_busy([int(count) for count in options.cards.split(",")], options.work)
        found = table(HEAD["scheduling"], rows)
    else:
        found, good = doctor(), True
    say(found)
    if options.record:
        record(options.command, found)
    return 0 if good else 1


def interrupted(chosen: Sequence[Interruption], count: int) -> tuple[list[list[str]], bool]:
    """A row for each interruption, and whether every try ended as it must; what did not is said and kept."""
    rows, good = [], True
    for interruption in chosen:
        done = []
        for _ in range(count):
            folder = Path(tempfile.mkdtemp(prefix="try-"))
            found = tries.attempt(interruption, folder)
            wrong = list(complaints(interruption, found))
            say(f"{interruption.id}: {' '.join(found.outcomes) or 'all pass'}, {found.recovery:.1f} s")
            for line in wrong:
                say(f"  {line} (see {folder})")
            good &= not wrong
            done.append(found)
        rows.append(row(interruption, done))
    return rows, good


def complaints(interruption: Interruption, found: tries.Try) -> Iterator[str]:
    """In which ways a try did not end as it must."""
    if found.outcomes != interruption.outcomes:
        yield f"expected that {interruption.outcomes} are the outcomes other than PASS, found {found.outcomes}"
    for kind in ("lost", "left", "problems"):
        yield from (f"{kind}: {what}" for what in getattr(found, kind))


def row(interruption: Interruption, done: Sequence[tries.Try]) -> list[str]:
    """The row of all tries."""
    outcomes = Counter(", ".join(one.outcomes) or "none" for one in done)
    seconds = sorted(one.recovery for one in done)
    return [
        interruption.sentence,
        str(len(done)),
        "; ".join(outcomes),
        f"{seconds[0]:.1f} to {seconds[-1]:.1f}",
        str(sum(len(one.lost) for one in done)),
        str(sum(len(one.left) for one in done)),
    ]


def kept_busy(counts: Sequence[int], work: float) -> tuple[list[list[str]], bool]:
    """A row for each number of cards, and whether all were kept busy for nine tenths of the time."""
    rows, good = [], True
    for cards in counts:
        found = scheduling.measure(cards, Path(tempfile.mkdtemp(prefix=f"scheduling-{cards}-")), work)
        share = found.bound / found.wall
        seconds = (found.longest, found.total / cards, found.wall)
        rows.append([str(cards), str(found.tests), *(f"{value:.1f} s" for value in seconds), f"{share:.1%}"])
        good &= share >= 0.9
        say(" ".join(rows[-1]))
    return rows, good


def doctor() -> str:
    """What the doctor says of made-up machines."""
    parts = []
    for name, ailment in BOXES.items():
        with tempfile.TemporaryDirectory() as folder:
            box = boxes.make(Path(folder), **ailment)
            said = "\n".join(lines(examine(box))).replace(folder, "")
        parts.append(f"### {name}\n\n```text\n{said}\n```\n")
    return "\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def record(name: str, text: str, page: Path = PAGE) -> None:
    """Puts a table into its place on the page."""
    begin, end = (mark.format(name=name) for mark in MARKS)
    page.write_text(between(page.read_text(encoding="utf-8"), begin, end, f"\n{text}\n", page.name), encoding="utf-8")


def say(line: str) -> None:
    """To whoever waits."""
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

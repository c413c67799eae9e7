"""``python -m reports merge SHARD... -o DIR``: the journals of the parts of one run, side by side in one directory.

Journals are copied as they are, so that their chains stay intact; what belongs together is decided as ``verify`` does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from reports import run as runs
from reports import verification
from reports.errors import ReportError
from reports.journal import FILE_NAME

NOT_MERGED = 1


def merge(paths: list[Path], directory: Path) -> list[str]:
    """Copies the journals of shards into a new directory, unless they are not of one run.

    Returns:
        What keeps them from being one run, in words; nothing was written then.

    Raises:
        ReportError: a journal cannot be used, or the directory exists or cannot be written.
    """
    found = runs.load(paths)
    if directory.exists():
        raise ReportError(f"{directory} exists: a run is never overwritten. Choose another -o")
    wrong = verification.contradictions(found)
    if wrong:
        return wrong
    part = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        for number, one in enumerate(found.journals, 1):
            shutil.copyfile(one.path, part / (FILE_NAME if number == 1 else f"journal-{number}.jsonl"))
        part.chmod(0o755)
        os.rename(part, directory)
    except OSError as error:
        raise ReportError(f"{directory}: cannot be written: {error.strerror or error}") from None
    finally:
        if part and part.exists():
            shutil.rmtree(part)
    return []


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    runs.add_run_argument(parser)
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True, help="new directory of the whole run"
    )


def run(options: argparse.Namespace) -> int:
    """Merges, and says what is still missing."""
    wrong = merge(options.run, options.output)
    for line in wrong:
        print(f"not merged: {line}")  # noqa: T201
    if wrong:
        return NOT_MERGED
    open_ = verification.problems(runs.load(options.output))
    print(f"{options.output}: {'; '.join(open_) if open_ else 'complete'}")  # noqa: T201
    return 0

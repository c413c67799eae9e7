"""``python -m reports COMMAND ...``: one module for each command, one place that says what went wrong.

A command is a module with ``add_arguments(parser)`` and ``run(options) -> int`` (the exit code). Only the module of the
command that was asked for is imported.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from reports.errors import ReportError

# Name -> module, and what it is for.
COMMANDS = {
    "verify": ("reports.verification", "is a run complete, consistent and untouched?"),
    "junit": ("reports.junit", "a run as JUnit XML, for CI systems"),
    "ctrf": ("reports.ctrf", "a run in the Common Test Report Format (JSON)"),
    "markdown": ("reports.markdown", "a run as the summary of a CI job"),
    "csv": ("reports.table", "the support matrix of a run, library by feature"),
    "catalogue": ("reports.catalogue", "every requirement of the suite, its source, and what proves it"),
    "merge": ("reports.merge", "bring the journals of shards into one run"),
    "bundle": ("reports.bundle", "the hand-over archive of a run"),
    "html": ("reports.run_page", "a run as one self-contained page"),
    "compare": ("reports.comparison_page", "what changed from one run, or several, to others"),
    "history": ("reports.history_page", "the trend over many runs"),
}
UNUSABLE = 2  # exit code for an input or an output that cannot be used, as argparse has it for arguments


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; 2 with one message where an input or an output cannot be used."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m reports", description="Reports of journals of conformance runs.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = None
    for name, (module, purpose) in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose)
        if given[:1] == [name]:
            chosen = importlib.import_module(module)
            chosen.add_arguments(command)
    options = parser.parse_args(given)
    try:
        code = chosen.run(options)
        sys.stdout.flush()
        return code
    except ReportError as error:
        print(f"python -m reports {options.command}: {error}", file=sys.stderr)  # noqa: T201
        return UNUSABLE
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())

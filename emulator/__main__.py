"""Command line: `python -m emulator COMMAND ...`, `--build`, `--info`, `--check-arguments`."""

import argparse
import sys
from pathlib import Path

from . import arguments as checks
from . import info, records
from .build import ensure_built
from .errors import EmulatorError
from .launch import execute
from .stack import find_stack
from .toolchain import find_compiler

USAGE = """\
python -m emulator COMMAND [ARGUMENT ...]
       python -m emulator --build
       python -m emulator --info [--operators] [--missing] [--json]
       python -m emulator --check-arguments [CHECKOUT ...] [--record]"""


def progress(line: str) -> None:
    """One line of progress, on standard error: standard output belongs to COMMAND."""
    print(f"emulator: {line}", file=sys.stderr, flush=True)


def main(words: list[str]) -> int:
    """Returns the exit code; does not return where it runs a COMMAND."""
    try:
        if words and not words[0].startswith("-"):
            execute(ensure_built(progress), words)
        options = parse(words)
        if options.build:
            progress(f"ready: {ensure_built(progress).folder}")
        elif options.info:
            show(options)
        else:
            return check(options)
    except EmulatorError as error:
        progress(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        progress("interrupted; what was compiled is kept")
        return 130
    return 0


def parse(words: list[str]) -> argparse.Namespace:
    """Parses the options of a call without COMMAND; exits with a message and code 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m emulator",
        usage=USAGE,
        description="Runs COMMAND on emulated NPUs: CANN's shared libraries on the CPU, built where needed. "
        "Settings are environment variables NPU_EMULATOR_*; emulator/README.md has them.",
        allow_abbrev=False,
    )
    actions = parser.add_argument_group("instead of COMMAND").add_mutually_exclusive_group()
    actions.add_argument("--build", action="store_true", help="build now, if the build is not there yet")
    actions.add_argument("--info", action="store_true", help="what is built, for what, settings, operators")
    actions.add_argument(
        "--check-arguments",
        nargs="*",
        type=Path,
        metavar="CHECKOUT",
        help="compare the operators' arguments with how torch_npu's sources (op-plugin and torch_npu, as folders) call "
        "them; without CHECKOUT with what is recorded for the installed release",
    )
    parser.add_argument("--operators", action="store_true", help="with --info: every operator with its arguments")
    parser.add_argument("--missing", action="store_true", help="with --info: operators that torch_npu could ask for")
    parser.add_argument("--json", action="store_true", help="with --info: all of it, as JSON")
    parser.add_argument("--record", action="store_true", help="with --check-arguments CHECKOUT: record what was found")
    options = parser.parse_args(words)
    if not (options.build or options.info or options.check_arguments is not None):
        parser.error("what is to run? Give a COMMAND (for example: python -m emulator pytest), or an option")
    if (options.operators or options.missing or options.json) and not options.info:
        parser.error("--operators, --missing and --json belong to --info")
    if options.record and not options.check_arguments:
        parser.error("--record belongs to --check-arguments CHECKOUT")
    return options


def show(options: argparse.Namespace) -> None:
    """Prints --info."""
    facts = info.collect(ensure_built(progress), find_stack(), find_compiler())
    print(info.as_json(facts) if options.json else info.for_people(facts, options.operators, options.missing))


def check(options: argparse.Namespace) -> int:
    """Carries out --check-arguments; exit code 1 where an operator does not fit."""
    # A release that is not known yet is what --record is for.
    build = ensure_built(progress, known_only=not options.check_arguments)
    stack = find_stack()
    version = stack.torch_npu.version
    checkouts = options.check_arguments
    calls = checks.calls_in(checkouts, stack) if checkouts else records.read_record(version)
    operators = [checks.parse_operator(line) for line in build.facts["operators"]]
    in_wheel = checks.names_in_wheel(stack)
    lines, well = checks.report_on(operators, calls.forms, in_wheel, records.names_elsewhere(version))
    print("\n".join(lines))
    if options.record and not well:
        raise EmulatorError(f"Nothing recorded for torch_npu {version}: put right what is listed above first.")
    if options.record:
        sources = [checks.source_name(folder) for folder in options.check_arguments]
        print(f"recorded in {records.write_record(version, calls, sources, in_wheel)}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

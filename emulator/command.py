"""The command of the installed package: `npu-emulator run COMMAND ...`, `build`, `info`, `check-arguments`."""

import sys

from .__main__ import main as module_main

USAGE = """\
usage: npu-emulator run COMMAND [ARGUMENT ...]    run COMMAND, and all that it starts, on emulated NPUs
       npu-emulator build                         compile CANN's libraries for the installed torch and torch_npu now
       npu-emulator info [--operators] [--missing] [--json]
       npu-emulator check-arguments [CHECKOUT ...] [--record]
Settings are environment variables NPU_EMULATOR_*, for example NPU_EMULATOR_CARDS=4."""
ACTIONS = ("build", "info", "check-arguments")


def main() -> int:
    """Returns the exit code; does not return where it runs a COMMAND."""
    words = sys.argv[1:]
    if words[:1] == ["run"] and len(words) > 1 and not words[1].startswith("-"):
        return module_main(words[1:])
    if words and words[0] in ACTIONS:
        return module_main([f"--{words[0]}", *words[1:]])
    asked = words[:1] in (["-h"], ["--help"], ["help"])
    print(USAGE, file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main())

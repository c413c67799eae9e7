"""What `python -m emulator --info` says: what is built, for what, what it emulates, and the settings in force."""

import json
import os
import textwrap
from collections import Counter

from . import build as builder
from . import cache as store
from .arguments import names_in_wheel, parse_operator
from .build import Build
from .launch import emulated_environment, real_cann
from .records import known_versions
from .stack import Stack
from .toolchain import Compiler

WIDTH = 118


def collect(build: Build, stack: Stack, compiler: Compiler) -> dict:
    """All facts, in types that JSON knows."""
    environment = emulated_environment(build, os.environ)
    operators = [parse_operator(line) for line in build.facts["operators"]]
    declared = {operator.name for operator in operators}
    return {
        "build": {
            "key": build.facts["key"],
            "folder": str(build.folder),
            "cache": str(store.cache_folder()),
            "compiler": build.facts["compiler"],
            "compiler_command": list(compiler.command),
            "sources": str(builder.SOURCES),
        },
        "torch": {"version": stack.torch.version, "folder": str(stack.torch.folder)},
        "torch_npu": {
            "version": stack.torch_npu.version,
            "folder": str(stack.torch_npu.folder),
            "known": known_versions(),
        },
        "settings": {name: value for name, value in sorted(environment.items()) if name.startswith("NPU_EMULATOR_")},
        "hidden": real_cann(os.environ),
        "operators": [
            {
                "name": operator.name,
                "kind": operator.kind,
                "arguments": [" ".join(pair) for pair in operator.parameters],
            }
            for operator in operators
        ],
        "collectives": build.facts["collectives"],
        "graph_operators": build.facts["graph_operators"],
        "missing": sorted(names_in_wheel(stack) - declared),
    }


def for_people(facts: dict, operators: bool = False, missing: bool = False) -> str:
    """The same as lines of text.

    Args:
        facts: What collect() returned.
        operators: List every operator with its arguments.
        missing: List the operators that this torch_npu can ask for and the emulator does not have.
    """
    kinds = Counter(operator["kind"] for operator in facts["operators"])
    rows = [
        ("built for", f"torch {facts['torch']['version']}, torch_npu {facts['torch_npu']['version']}"),
        ("known torch_npu", ", ".join(facts["torch_npu"]["known"])),
        ("compiler", facts["build"]["compiler"]),
        ("libraries", facts["build"]["folder"]),
        ("sources", facts["build"]["sources"]),
        ("settings", ", ".join(f"{name}={value}" for name, value in facts["settings"].items())),
        ("operators", f"{len(facts['operators'])} ({', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))})"),
        ("not emulated", f"{len(facts['missing'])} more that this torch_npu can ask for (--missing lists them)"),
        ("HCCL functions", ", ".join(facts["collectives"]) or "none"),
        ("graph operators", ", ".join(facts["graph_operators"]) or "none"),
    ]
    if facts["hidden"]:
        rows.append(("hidden", f"this machine's real {' and '.join(facts['hidden'])}"))
    lines = []
    for name, value in rows:
        lines.append(textwrap.fill(value, WIDTH, initial_indent=f"{name:16}", subsequent_indent=" " * 16))
    if operators:
        lines += ["", *(f"{one['name']}({', '.join(one['arguments'])})  {one['kind']}" for one in facts["operators"])]
    if missing:
        lines += ["", *facts["missing"]]
    return "\n".join(lines)


def as_json(facts: dict) -> str:
    """The facts as one JSON object."""
    return json.dumps(facts, indent=1)

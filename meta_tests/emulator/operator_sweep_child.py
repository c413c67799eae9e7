"""A child of the operator sweep: compares operators one after the other and writes what it does as JSON lines."""

from __future__ import annotations

import argparse
import json
import re
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch.testing._internal.opinfo.core import OpInfo
from torch.utils._python_dispatch import TorchDispatchMode

from meta_tests.emulator import operator_samples
from meta_tests.emulator.operator_comparison import compare


class AtenOperators(TorchDispatchMode):
    """Notes the names of the aten operators that run within it."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def work(shard: str, pattern: str, dtypes: list[str], after: str) -> Iterator[tuple[str, str, OpInfo]]:
    """(name, dtype, operator) in the shard, behind `after` ("NAME:DTYPE") where it is given."""
    index, count = map(int, shard.split("/"))
    matching = sorted((name, info) for name, info in operator_samples.operators().items() if re.search(pattern, name))
    waiting = bool(after)
    for name, info in matching[index::count]:
        for dtype in dtypes:
            if not waiting and operator_samples.takes(info, operator_samples.DTYPES[dtype]):
                yield name, dtype, info
            waiting = waiting and after != f"{name}:{dtype}"


def compare_operator(name: str, dtype: str, info: OpInfo) -> dict:
    """Compares all samples of an operator in a dtype, in all layouts; returns the "done" record."""
    started = time.monotonic()
    checks: Counter = Counter()
    layouts: Counter = Counter()
    findings = []
    samples = 0
    aten = AtenOperators()
    for number, sample in operator_samples.samples(info, operator_samples.DTYPES[dtype]):
        compared = False
        for layout in operator_samples.LAYOUTS:
            stored = operator_samples.stored(info, sample, layout)
            if stored is None:
                continue
            watching = None if samples else aten
            outcomes = list(compare(info, operator_samples.DTYPES[dtype], number, layout, stored, watching))
            for check, finding in outcomes:
                checks[check] += 1
                if finding is not None:
                    findings.append(asdict(finding))
            layouts[layout] += bool(outcomes)
            compared = compared or bool(outcomes)
        samples += compared
    return {
        "operator": name,
        "dtype": dtype,
        "samples": samples,
        "layouts": layouts,
        "checks": checks,
        "aten": sorted(aten.names),
        "seconds": round(time.monotonic() - started, 2),
        "findings": findings,
    }


def main() -> None:
    """Compares one shard, as operator_sweep.py starts it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shard", required=True)
    parser.add_argument("--operators", required=True)
    parser.add_argument("--dtypes", required=True)
    parser.add_argument("--events", required=True, type=Path)
    parser.add_argument("--after", default="")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # of deprecated operators, which have samples too
    torch.zeros(1, device="npu")
    with options.events.open("a", buffering=1) as events:
        print(json.dumps({"known": sorted(operator_samples.operators())}), file=events)
        for name, dtype, info in work(options.shard, options.operators, options.dtypes.split(","), options.after):
            print(json.dumps({"operator": name, "dtype": dtype}), file=events)
            print(json.dumps(compare_operator(name, dtype, info)), file=events)


if __name__ == "__main__":
    main()

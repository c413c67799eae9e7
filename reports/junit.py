"""``python -m reports junit RUN``: JUnit XML, as CI systems read it.

A suite for each library, a case for each test. A failure of the stack is a <failure>; a test whose process died or
whose card was lost is an <error>; what was not run, is not supported or is waived is <skipped>, with the reason, since
JUnit knows no more; the outcome itself is a property of the case. The last suite has one case, the verdict, which fails
unless the run is CONFORMANT: a CI system that looks at the XML alone sees an INCOMPLETE run, too.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from reports import export
from reports.outcome import Outcome
from reports.run import Run
from reports.verdict import CONFORMANT, verdict_line

ELEMENTS = {
    **dict.fromkeys((Outcome.FAIL, Outcome.XPASS, Outcome.VACUOUS), "failure"),
    **dict.fromkeys((Outcome.CRASH, Outcome.TIMEOUT, Outcome.DEVICE_LOST, Outcome.INFRA), "error"),
    **dict.fromkeys((Outcome.NOT_RUN, Outcome.UNSUPPORTED, Outcome.XFAIL), "skipped"),
}
# All that XML 1.0 cannot say, not even escaped.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(run: Run) -> str:
    """The XML of a run."""
    root = ElementTree.Element("testsuites", name="npu-conformance")
    libraries: dict[str, list[Mapping]] = {}
    for record in run.all_tests():
        libraries.setdefault(record["library"], []).append(record)
    suites = [_suite(library, records, run) for library, records in sorted(libraries.items())]
    for suite in (*suites, _verdict(run)):
        root.append(suite)
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    root.set("time", f"{sum(float(suite.get('time', '0')) for suite in root):.3f}")
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(library: str, records: Sequence[Mapping], run: Run) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", name=_text(library), timestamp=_text(export.started(run)))
    machine = run.header.get("machine") or {}
    if machine.get("name"):
        suite.set("hostname", _text(machine["name"]))
    _properties(suite, export.environment(run))
    for record in records:
        suite.append(_case(record))
    return _counted(suite)


def _case(record: Mapping[str, Any]) -> ElementTree.Element:
    path, _, name = record["nodeid"].partition("::")
    module = path.removesuffix(".py").replace("/", ".")
    case = ElementTree.Element("testcase", classname=_text(module), name=_text(name or path))
    case.set("time", f"{export.seconds(record):.3f}")
    waiver = record.get("waiver") or {}
    facts = {
        "requirement": record["requirement"],
        "level": record["level"],
        "sentence": record["sentence"],
        "outcome": record["outcome"],
        "features": " ".join(record["features"]),
        "reproduce": record["reproduce"],
        "waiver": f"{waiver.get('defect')}: {waiver.get('link')}" if waiver else None,
    }
    _properties(case, facts)
    element = ELEMENTS.get(Outcome(record["outcome"]))
    if element:
        first = (record["reason"].strip().splitlines() or [""])[0]
        said = f"waived: {first}" if record["outcome"] == Outcome.XFAIL else first
        found = ElementTree.SubElement(case, element, message=_text(said))
        if element != "skipped":
            found.set("type", record["outcome"])
            found.text = _text(f"{record['reason']}\nreproduce: {record['reproduce']}")
    if record.get("log"):
        ElementTree.SubElement(case, "system-out").text = _text(record["log"])
    return case


def _verdict(run: Run) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", name="verdict")
    case = ElementTree.SubElement(suite, "testcase", classname="npu-conformance", name="verdict", time="0.000")
    line = verdict_line(run.verdict, {**run.header, "chip": run.chip})
    if run.verdict.verdict == CONFORMANT and run.complete:
        ElementTree.SubElement(case, "system-out").text = _text(line)
        return _counted(suite)
    killed = [f"{one.path.name}: the run was killed before its end" for one in run.interrupted]
    why = [*killed, *run.verdict.absent, *run.verdict.unanswered, *run.verdict.problems]
    found = ElementTree.SubElement(case, "failure", message=_text(line), type=run.verdict.verdict)
    found.text = _text("\n".join([line, *why]))
    return _counted(suite)


def _counted(suite: ElementTree.Element) -> ElementTree.Element:
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for name, element in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(sum(case.find(element) is not None for case in cases)))
    suite.set("time", f"{sum(float(case.get('time')) for case in cases):.3f}")
    return suite


def _properties(parent: ElementTree.Element, facts: Mapping[str, Any]) -> None:
    properties = ElementTree.SubElement(parent, "properties")
    for name, value in facts.items():
        if value is not None:
            ElementTree.SubElement(properties, "property", name=_text(name), value=_text(value))


def _text(value: Any) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", str(value))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    export.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Writes the XML."""
    return export.emit(options, render)

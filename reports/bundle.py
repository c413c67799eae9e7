"""``python -m reports bundle RUN``: the archive that a vendor hands over. ``python -m reports verify`` checks it, too.

It has the journals, all reports made of them, the provenance, the waivers, the suite's catalogue and the record of its
trial, and ``manifest.sha256`` over them, as ``sha256sum -c`` reads it. With ``--sign KEY`` the manifest is signed by
``ssh-keygen -Y sign`` (namespace "npu-conformance"). With ``--redact`` host names, user names, addresses and paths are
taken out of everything first (reports/redaction.py).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from reports import archive, ctrf, export, junit, markdown, redaction, table, verification
from reports import run as runs
from reports.archive import MANIFEST, SIGNATURE
from reports.errors import ReportError
from reports.files import write_whole
from reports.run import Run
from reports.suite import ROOT
from reports.verdict import verdict_line

OF_THE_SUITE = (
    *("docs/CATALOGUE.md", "docs/TRIAL.md", "docs/trial.json", "meta_tests/faults.toml"),
    *("profiles.toml", "waivers.toml"),
)
README = """A run of npu-conformance, handed over as evidence.

journals/          what the run recorded, line by line, each chained to the one before
reports/           made of the journals alone: a page, JUnit, CTRF, Markdown, the support matrix
provenance.json    what was tested, and by which revision of the suite
waivers.json       the known failures that the run waived, and all that it was given
suite/             of the suite that made this archive: requirements, trial with its kill matrix, profiles, waivers
manifest.sha256    sums of all files: sha256sum -c manifest.sha256

To check everything, with the suite:  python -m reports verify THIS-ARCHIVE.tar.gz
With the signature, if there is one:  python -m reports verify THIS-ARCHIVE.tar.gz --signers FILE --identity WHO
(FILE is an allowed_signers file of ssh-keygen(1).)
"""


def bundle(run: Run, redact: bool = False, key: Path | None = None) -> bytes:
    """The archive of a run, as a tar.gz; the same run and suite give the same bytes, but for a signature.

    Raises:
        ReportError: the run is no evidence (verification.problems), or it cannot be redacted or signed.
    """
    wrong = verification.problems(run)
    if wrong:
        raise ReportError(f"only a run that verifies can be handed over: {'; '.join(wrong[:3])}")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        journals = redaction.redacted(run, directory) if redact else {one.path: one.path for one in run.journals}
        run = runs.load(list(journals.values()))
        files = _files(run)
        if redact:
            redaction.check(files, redaction.secrets(runs.load(list(journals))))
        files[MANIFEST] = archive.manifest(files)
        if key:
            files[SIGNATURE] = archive.sign(files[MANIFEST], key, directory)
    return archive.pack(files)


def _files(run: Run) -> dict[str, bytes]:
    from reports.run_page import html  # draws; an archive alone needs it

    texts = {
        "README.txt": README,
        "reports/junit.xml": junit.render(run),
        "reports/ctrf.json": ctrf.render(run),
        "reports/summary.md": markdown.render(run),
        "reports/matrix.csv": table.render(run),
        "provenance.json": _json(_provenance(run)),
        "waivers.json": _json(_waivers(run)),
    }
    files = {name: text.encode("utf-8", "replace") for name, text in texts.items()}
    files["reports/report.html"] = html(run)
    for number, one in enumerate(run.journals, 1):
        files[f"journals/journal{f'-{number}' * (number > 1)}.jsonl"] = one.path.read_bytes()
    for name in OF_THE_SUITE:
        if (ROOT / name).is_file():
            files[f"suite/{name}"] = (ROOT / name).read_bytes()
    return files


def _provenance(run: Run) -> dict[str, Any]:
    left_out = ("type", "schema", "sha256")
    headers = [{name: value for name, value in one.header.items() if name not in left_out} for one in run.journals]
    line = verdict_line(run.verdict, {**run.header, "chip": run.chip})
    return {"verdict": line, "environment": export.environment(run), "headers": headers, "stacks": list(run.stacks)}


def _waivers(run: Run) -> dict[str, Any]:
    used = [
        {"requirement": test["requirement"], "nodeid": test["nodeid"], "waiver": test["waiver"]}
        for test in run.tests
        if test.get("waiver")
    ]
    return {"used": used, "given": run.plan.get("waivers", []), "out of order": list(run.verdict.problems)}


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=True) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    runs.add_run_argument(parser)
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="the archive, a .tar.gz")
    parser.add_argument("--redact", action="store_true", help="take out host names, user names, addresses and paths")
    parser.add_argument("--sign", metavar="KEY", type=Path, help="sign the manifest with this SSH key")


def run(options: argparse.Namespace) -> int:
    """Writes the archive and says where."""
    data = bundle(runs.load(options.run), options.redact, options.sign)
    write_whole(options.output, data)
    print(f"{options.output}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")  # noqa: T201
    return 0

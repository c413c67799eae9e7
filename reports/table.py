"""``python -m reports csv RUN``: the support matrix as CSV, a line for each library and feature."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io

from reports import export, matrix
from reports.matrix import Cell
from reports.run import Run

COUNTS = tuple(field.name for field in dataclasses.fields(Cell))


def render(run: Run) -> str:
    """Lines "library, feature, passed, ran, failed, waived, open", counting requirements; feature "all" is over all."""
    support = matrix.support(run.all_tests())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["library", "feature", *COUNTS])
    for library, row in support.rows.items():
        for feature in (*support.features, None):
            if feature in row:
                counts = [getattr(row[feature], name) for name in COUNTS]
                writer.writerow([_cell(library), _cell(feature or "all"), *counts])
    return text.getvalue()


def _cell(text: str) -> str:
    """A text that a spreadsheet does not take for a formula, whatever a journal says."""
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") else text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    export.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Writes the CSV."""
    return export.emit(options, render)

"""What the tests of the project report beside passed and failed."""

import json
from pathlib import Path

from meta_tests.emulator.operator_sweep import merged, summary


def pytest_addoption(parser):
    """Options of these tests."""
    parser.addoption(
        "--operator-figures", type=Path, metavar="FILE", help="write what the operator sweep compared as JSON"
    )


def pytest_terminal_summary(terminalreporter, config):
    """One line with what the operator sweep compared."""
    figures = [
        value
        for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
        for name, value in report.user_properties
        if name == "operator_sweep" and report.when == "call"
    ]
    if not figures:
        return
    total = merged(figures)
    terminalreporter.write_line(summary(total))
    if config.option.operator_figures:
        config.option.operator_figures.write_text(json.dumps(total, indent=1) + "\n")

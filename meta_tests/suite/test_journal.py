"""The journal of a run of the suite: what its header says, and what reports import."""

import subprocess
import sys

from conftest import ROOT
from reports import journal


def test_reports_import_no_torch():
    """Summing up and all commands import neither torch nor a library under test, nor the machinery of the tests."""
    program = (
        "import sys, importlib, reports.summary\n"
        "from reports.__main__ import COMMANDS\n"
        "for module, _ in COMMANDS.values(): importlib.import_module(module)\n"
        "heavy = {'torch', 'torch_npu', 'transformers', 'numpy', 'fixtures', 'pytest'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_header_says_what_was_tested(suite):
    """The header has versions, environment, system, revision, command line, and whether the cards were emulated."""
    ran = suite(
        """
        @pytest.mark.host
        @requirement("demo/passes")
        def test_passes(evidence):
            '''A thing works.'''
            evidence.check_equal("x", 1, 1)
        """,
        *("-n", "0"),
    )
    header = ran.records[0]

    assert header["schema"] == journal.SCHEMA
    assert header["emulated"] is False
    assert header["versions"]["torch_npu"] == "2.13.0"
    assert header["versions"]["triton-ascend"] is None
    assert header["builds"]["torch_npu"].startswith("c798c653")
    assert header["python"] == sys.version.split()[0]
    assert header["architecture"]
    assert header["command"][-2:] == ["-n", "0"]
    assert ran.records[-1]["type"] == "footer"
    assert ran.records[-1]["verdict"] == "CONFORMANT"

"""A test that does not declare its requirement properly is a collection error with a clear message."""

import subprocess
import sys

import pytest

from conftest import ROOT

DECLARED = """
@pytest.mark.host
@requirement({id!r}, level={level!r})
def test_one(evidence):
    {docstring!r}
    evidence.check_equal("x", 1, 1)
"""
SENTENCE = "A thing works."


@pytest.mark.parametrize(
    ("id", "level", "docstring", "message"),
    [
        ("demo", "core", SENTENCE, "its id 'demo' is not of the form library/kebab-case"),
        ("demo/Thing", "core", SENTENCE, "its id 'demo/Thing' is not of the form library/kebab-case"),
        ("demo/thing", "basic", SENTENCE, "its level 'basic' is none of core, extended"),
        ("demo/thing", "core", "", "it has no docstring"),
        ("demo/thing", "core", "a thing works", "its docstring is not a sentence"),
        ("demo/thing", "core", "A thing should work.", "its docstring does not state a promise in the present tense"),
        (
            "demo/thing",
            "core",
            "Checks that a thing works.",
            "its docstring does not state a promise in the present tense",
        ),
    ],
)
def test_malformed_declarations(suite, id, level, docstring, message):
    """A malformed id, level or sentence is refused with what is wrong with it."""
    ran = suite(DECLARED.format(id=id, level=level, docstring=docstring), "-n", "0")

    assert ran.returncode == 2
    assert f"tests/test_written.py::test_one: {message}" in ran.stdout
    assert "Traceback" not in ran.stdout


def test_undeclared_tests(suite):
    """A test without a requirement is refused."""
    ran = suite("def test_one():\n    pass", "-n", "0")

    assert ran.returncode == 2
    assert 'it declares no requirement; put @requirement("library/what-it-proves") above it' in ran.stdout


def test_ids_are_unique(suite):
    """Two tests with one id are refused; the cases of one parametrised test share theirs."""
    twice = DECLARED.format(id="demo/thing", level="core", docstring=SENTENCE)

    ran = suite(twice + twice.replace("test_one", "test_two"), "-n", "0")
    assert ran.returncode == 2
    assert (
        "tests/test_written.py::test_two: its id 'demo/thing' is already that of tests/test_written.py::test_one"
        in (ran.stdout)
    )


def test_cases_of_one_test_share_their_id(suite):
    """The cases of a parametrised test are one requirement, which passes if all of them do."""
    ran = suite(
        """
        @pytest.mark.host
        @pytest.mark.parametrize("number", [4, 5])
        @requirement("demo/thing")
        def test_one(evidence, number):
            '''A thing works.'''
            evidence.check_equal("number", number, 4)
        """,
        *("-n", "0"),
    )

    assert ran.outcomes == {"test_one[4]": "PASS", "test_one[5]": "FAIL"}
    assert ran.verdict.endswith(": 1 FAIL")


def test_collecting_the_suite_imports_no_torch():
    """Listing the whole suite imports neither torch nor any library under test."""
    program = (
        "import sys, pytest\n"
        "code = pytest.main(['--collect-only', '-q'])\n"
        "heavy = {'torch', 'torch_npu', 'transformers', 'accelerate', 'peft', 'trl', 'numpy'}\n"
        "print('imported:', sorted(heavy & set(sys.modules)), 'exit code:', int(code))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.stdout.splitlines()[-1] == "imported: [] exit code: 0", done.stdout + done.stderr

"""The catalogue of requirements: complete, with sources and proofs, and docs/CATALOGUE.md is current."""

import json
from pathlib import Path

import pytest

from reports import catalogue
from reports.__main__ import main
from reports.conditions import Facts
from reports.errors import ReportError

ROOT = Path(__file__).resolve().parents[2]
TEST = """
import pytest

pytestmark = [pytest.mark.single_npu]

@pytest.mark.fp16
@requirement("demo/a", level="extended")
def test_a():
    '''A thing | works
    well.'''

@requirement("demo/b")
def test_b():
    '''Another thing works.'''
"""
SOURCES = """
[[source]]
id = "demo/a"
guide = "Section one"

[[source]]
feature = "single_npu"
guide = "Section two"
link = "https://example.org/docs"
since = { demo = ">=1.2" }
"""
FAULTS = """
[families]
forward = "values"

[[fault]]
id = "too-large"
line = "aclnnMm:scale=2"
requirements = ["demo/a[fp16]", "demo/other, demo/a[bf16]"]

[[fault]]
id = "too-small"
line = "aclnnMm:zero"
requirements = ["demo/*"]

[[fault]]
id = "hangs"
line = "aclnnMm:hang"
requirements = ["demo/b"]
"""

WAIVER = """
[[waiver]]
id = "demo/b"
defect = "D77"
kind = "torch_npu"
reason = "it is wrong"
link = "https://example.org/77"
owner = "demo"
when = { demo = "<2" }
error = "AssertionError: .*"
expires = 2099-01-01
"""

COLUMNS = ("id", "line", "patch", "loud", "caught")
ROWS = [
    ("too-large", "aclnnMm:scale=2", "", False, {"demo/a": 1.5}),
    ("too-small", "aclnnMm:scale=0.5", "", False, {"demo/a": 1.5, "demo/b": 1.5}),  # its line is another one now
    ("hangs", "aclnnMm:hang", "", True, {"demo/b": 1.5}),
]
FILES = {
    **{"tests/demo/test_x.py": TEST, catalogue.SOURCES: SOURCES, catalogue.FAULTS: FAULTS},
    catalogue.RECORD: json.dumps({"faults": [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]}),
}


@pytest.fixture
def suite(tmp_path):
    """A suite of two requirements, with sources, faults and the record of a trial."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_entries_are_complete(suite):
    """Each requirement has level, sentence, features, source, since, test and the faults that prove it."""
    a, b = catalogue.entries(suite)

    assert (a.declared.id, a.declared.level, a.declared.sentence) == ("demo/a", "extended", "A thing | works well.")
    assert a.declared.features == ("fp16", "single_npu")
    assert a.declared.test == "tests/demo/test_x.py::test_a"
    assert (a.guide, a.link, str(a.since)) == ("Section one", "https://example.org/docs", "demo >=1.2")
    assert (a.faults, a.seen) == (("too-large", "too-small"), ("too-large",))
    assert (b.guide, b.faults, b.seen) == ("Section two", ("too-small", "hangs"), ())
    assert b.since.hold(Facts(versions={"demo": "1.3"}))


def test_the_page(suite):
    """The page has a row for each requirement, in which nothing breaks the table."""
    page = catalogue.markdown(catalogue.entries(suite))

    row = next(line for line in page.splitlines() if line.startswith("| `demo/a`"))
    assert "A thing \\| works well." in row
    assert row.replace("\\|", "").count("|") == 9
    assert row.endswith("| too-large, *too-small* |")
    assert "2 requirements, 1 proven by a fault, 0 shown red by a known failure." in page


def test_a_known_failure(suite):
    """Where no fault proves a requirement, the known failure that shows it red is named, with its versions."""
    (suite / catalogue.FAULTS).unlink()
    (suite / "waivers.toml").write_text(WAIVER)

    a, b = catalogue.entries(suite)

    assert (a.waived, b.waived) == ((), ("D77 (demo <2)",))
    page = catalogue.markdown((a, b))
    assert next(line for line in page.splitlines() if "`demo/b`" in line).endswith("| known failure D77 (demo <2) |")
    assert "2 requirements, 0 proven by a fault, 1 shown red by a known failure." in page


def test_a_suite_without_faults(suite):
    """Where nobody has proven anything yet, nothing is said to be proven."""
    (suite / catalogue.FAULTS).unlink()

    assert [(entry.faults, entry.seen) for entry in catalogue.entries(suite)] == [((), ()), ((), ())]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (catalogue.SOURCES, "[[source]]\nguide = 'x'\n", "sources.toml, line 1: it selects nothing, or says nothing"),
        (catalogue.SOURCES, "[[source]]\nid = 'x'\n", "sources.toml, line 1: it selects nothing, or says nothing"),
        (catalogue.SOURCES, "[[source]]\nid = 'x'\nurl = 'y'\nlink = 'z'\n", "sources.toml, line 1: unknown url"),
        (catalogue.SOURCES, "[[source]]\nid = 'x'\nlink = 3\n", "sources.toml, line 1: guide and link are texts"),
        (catalogue.SOURCES, "[[source]]\nid = 'x'\nsince = { a = 'one' }\n", "Invalid specifier"),
        (catalogue.SOURCES, "[[source]]\nid = 'x'\ncases = 'y'\nlink = 'z'\n", "go with since alone"),
        (catalogue.FAULTS, "[[fault]]\nid = 'x'\nrequirements = 'y'\n", "faults.toml, line 1: a fault has an id and a"),
        (catalogue.FAULTS, "\x00", "faults.toml: not TOML"),
        (catalogue.RECORD, '{"faults": [3]}', "trial.json: not as python -m meta_tests.trial record writes it"),
        ("tests/demo/test_x.py", "def (", "test_x.py: cannot be read as Python"),
    ],
)
def test_malformed_files(suite, file, text, message):
    """A malformed file is refused with file, line and what is wrong."""
    (suite / file).write_text(text)

    with pytest.raises(ReportError) as raised:
        catalogue.entries(suite)
    assert message in str(raised.value)


def test_every_requirement_has_a_source():
    """Each requirement of the suite says what promises it, what documents it, and since when."""
    left = [e.declared.id for e in catalogue.entries(ROOT) if not (e.guide and e.link and e.since.entries)]

    assert left == []


def test_the_page_is_current(capsys):
    """docs/CATALOGUE.md is what the command writes today."""
    assert main(["catalogue", "--check"]) == 0, capsys.readouterr().out

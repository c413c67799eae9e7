"""Requirements that the libraries are too old for are UNSUPPORTED by data, with the version that brings them."""

import importlib.metadata

TESTS = """
@pytest.mark.host
@requirement("demo/new-{n}")
def test_{n}(evidence):
    '''A thing works.'''
    evidence.check_equal("sum", 4, 4)
"""


def test_a_stack_that_is_too_old(suite, pytester):
    """The first source that gives a version decides; the reason names what is needed and what was found."""
    (pytester.path / "docs").mkdir()
    (pytester.path / "docs/sources.toml").write_text(
        '[[source]]\nid = "demo/new-a"\nsince = { pytest = ">=99.1" }\n'
        '[[source]]\nid = "demo/*"\nsince = { pytest = ">=7" }\n'
    )

    ran = suite(TESTS.format(n="a") + TESTS.format(n="b"), "-n", "0")

    assert ran.outcomes == {"test_a": "UNSUPPORTED", "test_b": "PASS"}
    version = importlib.metadata.version("pytest")
    assert ran.tests["test_a"]["reason"] == f"demo/new-a needs pytest >=99.1, found {version}"


def test_a_case_that_came_later(suite, pytester):
    """A source with cases is about those of the requirement alone; the others are as the next source says."""
    (pytester.path / "docs").mkdir()
    (pytester.path / "docs/sources.toml").write_text(
        '[[source]]\nid = "demo/new-kinds"\ncases = "n*"\nsince = { pytest = ">=99.1" }\n'
        '[[source]]\nid = "demo/*"\nsince = { pytest = ">=7" }\n'
    )

    cases = '@pytest.mark.parametrize("kind", ["old", "new"])' + TESTS.format(n="kinds").replace(
        "evidence)", "evidence, kind)"
    )
    ran = suite(cases, "-n", "0")

    assert ran.outcomes == {"test_kinds[old]": "PASS", "test_kinds[new]": "UNSUPPORTED"}


def test_a_malformed_table(suite, pytester):
    """A table that cannot be used is refused before any test runs."""
    (pytester.path / "docs").mkdir()
    (pytester.path / "docs/sources.toml").write_text('[[source]]\nid = "demo/*"\nsince = { pytest = "new" }\n')

    ran = suite(TESTS.format(n="a"), "-n", "0")

    assert "sources.toml, line 1: pytest: Invalid specifier" in ran.stderr
    assert ran.returncode == 4

"""What is measured of runs that nobody watches: one try for real, and what would be said of bad ones."""

import pytest

from meta_tests.unattended import __main__ as unattended
from meta_tests.unattended import tries
from meta_tests.unattended.interruptions import INTERRUPTIONS
from meta_tests.unattended.tries import Try

KILLED = next(one for one in INTERRUPTIONS if one.id == "worker-killed")
GOOD = Try(outcomes=("CRASH",), recovery=4.0, lost=(), left=(), problems=())


def test_a_try(tmp_path, built):
    """A worker that is killed costs its test, and nothing else."""
    found = tries.attempt(KILLED, tmp_path / "project", limit=300)  # nothing hangs here, and the machine may be busy

    assert list(unattended.complaints(KILLED, found)) == []
    assert found.recovery > 0


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (Try(("CRASH", "FAIL"), 4.0, (), (), ()), "expected that ('CRASH',) are the outcomes other than PASS"),
        (Try(("CRASH",), 4.0, ("tests/a.py::test_a",), (), ()), "lost: tests/a.py::test_a"),
        (Try(("CRASH",), 4.0, (), ("process 7: python",), ()), "left: process 7: python"),
        (Try(("CRASH",), 4.0, (), (), ("no footer",)), "problems: no footer"),
    ],
)
def test_what_is_wrong_with_a_try(found, complaint):
    """Another outcome, a lost result, something left behind and a journal that does not verify are each said."""
    (said,) = unattended.complaints(KILLED, found)

    assert said.startswith(complaint)


def test_the_page():
    """The page has a row for every interruption, of tries that lost nothing and left nothing."""
    rows = [line.split(" | ") for line in unattended.PAGE.read_text().splitlines() if line.startswith("| ")]
    measured = {row[0].removeprefix("| "): row[2:] for row in rows}

    for one in INTERRUPTIONS:
        outcomes, _, lost, left = measured[one.sentence]
        assert (outcomes, lost, left.removesuffix(" |")) == (", ".join(one.outcomes) or "none", "0", "0")


def test_a_table_is_put_into_its_place(tmp_path):
    """Recording replaces what stood there, and nothing else."""
    page = tmp_path / "page.md"
    begin, end = (mark.format(name="scheduling") for mark in unattended.MARKS)
    page.write_text(f"# Before\n{begin}old\n{end}after\n")

    unattended.record("scheduling", "new\n", page)

    assert page.read_text() == f"# Before\n{begin}\nnew\n\n{end}after\n"
    assert unattended.row(KILLED, [GOOD, GOOD])[1:] == ["2", "CRASH", "4.0 to 4.0", "0", "0"]

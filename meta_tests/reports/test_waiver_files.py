"""waivers.toml by itself: how it is read, what each waiver is about, and which are out of order."""

from datetime import date, datetime, timedelta

import pytest

from reports import waivers
from reports.conditions import Conditions
from reports.outcome import Outcome
from reports.waivers import WaiverError

LAST = date(2027, 5, 25)
FIELDS = {
    "id": '"demo/known"',
    "defect": '"D0"',
    "kind": '"torch"',
    "reason": '"it is broken"',
    "link": '"https://example.org/1"',
    "owner": '"somebody"',
    "when": '{ torch = "<3" }',
    "error": '"AssertionError: .*five"',
    "expires": "2027-05-25",
}


@pytest.fixture
def read(tmp_path):
    """read(field=TOML value or None, ...) -> the waivers of a file with one waiver of FIELDS and these changes."""

    def make(*more: str, **changes):
        fields = {name: value for name, value in {**FIELDS, **changes}.items() if value is not None}
        table = "\n".join(["[[waiver]]", *(f"{name} = {value}" for name, value in fields.items())])
        file = tmp_path / "waivers.toml"
        file.write_text("\n".join(["# head", table, *more]))
        return waivers.read(file)

    return make


def test_a_waiver_is_read_and_kept(read):
    """Every field is read, and the journal keeps it as it was written."""
    (waiver,) = read(id='["demo/known", "demo/k*[fp16-*]"]', outcome='"CRASH"')

    assert waiver.ids == (("demo/known", None), ("demo/k*", "fp16-*"))
    assert waiver.when == Conditions({"torch": "<3"})
    assert waiver.outcome is Outcome.CRASH
    assert waiver.record() == {
        "id": ["demo/known", "demo/k*[fp16-*]"],
        "defect": "D0",
        "kind": "torch",
        "reason": "it is broken",
        "link": "https://example.org/1",
        "owner": "somebody",
        "error": "AssertionError: .*five",
        "when": {"torch": "<3"},
        "outcome": "CRASH",
        "expires": "2027-05-25",
        "place": "waivers.toml, line 2",
    }


def test_a_failure_is_expected_where_nothing_else_is_said(read):
    """Without an outcome a waiver is about a FAIL."""
    assert read()[0].outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"owner": None}, "no owner"),
        ({"owner": None, "link": None}, "no link, owner"),
        ({"colour": '"red"'}, "unknown colour"),
        ({"owner": None, "colour": '"red"', "size": "1"}, "no owner; unknown colour, size"),
        ({"reason": "5"}, "reason: expected a text, found 5"),
        ({"reason": '" "'}, "reason: expected a text, found ' '"),
        (
            {"expires": '"2027-05-25"'},
            "expires: expected a date such as 2027-05-25, without quotes, found '2027-05-25'",
        ),
        (
            {"expires": "2027-05-25T00:00:00"},
            f"expires: expected a date such as 2027-05-25, without quotes, found {datetime(2027, 5, 25)!r}",
        ),
        ({"kind": '"luck"'}, f"kind: 'luck' is none of {', '.join(waivers.KINDS)}"),
        ({"link": '"ftp://x"'}, "link: expected an address (https://...), found 'ftp://x'"),
        ({"outcome": '"XPASS"'}, "outcome: 'XPASS' is none of FAIL, CRASH, TIMEOUT, VACUOUS"),
        ({"error": '"("'}, "error: no regular expression: missing ), unterminated subpattern at position 0"),
        ({"error": '"x?"'}, "error: 'x?' matches any error; name the one that is known"),
        ({"error": '"^$"'}, "error: '^$' matches any error; name the one that is known"),
        (
            {"when": '"torch"'},
            "when: expected a table such as { torch_npu = '<=2.13.0', soc = 'Ascend910B*' }, found 'torch'",
        ),
        (
            {"when": "{}"},
            "when: empty; a defect is one of some version, so name it, for example torch_npu = '<=2.13.0'",
        ),
        ({"id": "[]"}, "id: expected a pattern or a list of patterns, found []"),
        ({"id": '"demo/x[a"'}, "id: expected 'library/id' or 'library/id[case]', found 'demo/x[a'"),
        ({"id": '"[a]"'}, "id: expected 'library/id' or 'library/id[case]', found '[a]'"),
    ],
)
def test_a_malformed_waiver_is_refused(read, changes, said):
    """What is wrong is said, with file and line and with where to look."""
    with pytest.raises(WaiverError) as caught:
        read(**changes)

    mends = "waivers.toml and reports/waivers.py say what a waiver looks like"
    assert str(caught.value) == f"waivers.toml, line 2: {said}. {mends}"


def test_every_malformed_waiver_is_named(read):
    """One message names all waivers that are malformed."""
    with pytest.raises(WaiverError, match=r"line 2: no owner; waivers\.toml, line 11: no id, "):
        read("[[waiver]]", owner=None)


@pytest.mark.parametrize("address", ["https://a", "http://a"])
def test_an_address_begins_as_one(read, address):
    """Both kinds of address are taken."""
    assert read(link=f'"{address}"')[0].link == address


def test_what_is_no_toml_is_refused(tmp_path):
    """A file that cannot be read is the waivers' error, too."""
    (tmp_path / "waivers.toml").write_text("[[waiver")

    with pytest.raises(WaiverError, match=r"waivers\.toml: not TOML"):
        waivers.read(tmp_path / "waivers.toml")


@pytest.mark.parametrize(
    ("id", "requirement", "case", "about"),
    [
        ("demo/known", "demo/known", None, True),
        ("demo/known", "demo/known", "fp16", True),
        ("demo/known", "demo/knowns", None, False),
        ("demo/*", "demo/known", "x", True),
        ("demo/known[fp16-*]", "demo/known", "fp16-2", True),
        ("demo/known[fp16-*]", "demo/known", "bf16-2", False),
        ("demo/known[fp16-*]", "demo/other", "fp16-2", False),
        ("demo/known[fp16-*]", "demo/known", None, False),
        ("demo/known[*]", "demo/known", None, True),
        ("demo/known[?*]", "demo/known", None, False),
        ("demo/known[a[b]]", "demo/known", "ab", True),
    ],
)
def test_what_a_waiver_is_about(read, id, requirement, case, about):
    """It is about a requirement by its id, and about cases of it where it names some."""
    (waiver,) = read(id=f'"{id}"')

    assert waiver.concerns(requirement, case) is about


def test_a_waiver_holds_through_its_last_day(read):
    """Up to and including the day that it names."""
    (waiver,) = read()

    assert [waiver.expired(LAST + timedelta(days)) for days in (-1, 0, 1)] == [False, False, True]


@pytest.mark.parametrize(
    ("outcome", "text", "expected"),
    [
        ("FAIL", "AssertionError: found five", True),
        ("FAIL", "caused by AssertionError: five of them", True),
        ("FAIL", "AssertionError: found six", False),
        ("CRASH", "AssertionError: found five", False),
    ],
)
def test_a_waiver_is_held_to_its_error(read, outcome, text, expected):
    """Another outcome or another error is not the known one."""
    assert read()[0].expects(outcome, text) is expected


def test_waivers_out_of_order(read):
    """One that is expired, and one that is about nothing, are named with what to do."""
    found = read(id='["demo/known", "demo/gone"]')

    assert waivers.out_of_order(found, ["demo/known", "demo/more"], LAST) == [
        "waivers.toml, line 2 (D0) is about no requirement: 'demo/gone' matches none. Mend the id or remove the waiver"
    ]
    assert waivers.out_of_order(found, ["demo/known", "demo/gone"], LAST + timedelta(1)) == [
        "waivers.toml, line 2 (D0) expired on 2027-05-25. See whether the defect is still there, "
        "then renew the date or remove the waiver"
    ]


@pytest.mark.parametrize(
    ("id", "collected", "said"),
    [
        ("demo/known", {"demo/known": {None}}, None),
        ("demo/known[a*]", {"demo/known": {"ab", "b"}}, None),
        ("demo/known[a*]", {"demo/other": {"b"}}, None),
        ("demo/known[*]", {"demo/known": {None}}, None),
        ("demo/known[a*]", {"demo/known": {"c", "b"}}, "'demo/known[a*]' matches none of b, c"),
        ("demo/known[a*]", {"demo/known": {None}}, "'demo/known[a*]' matches none of None"),
        ("demo/known[?*]", {"demo/known": {None}}, "'demo/known[?*]' matches none of None"),
        ("demo/k*[a*]", {"demo/known": {"b"}, "demo/kept": {"a1"}}, None),
        ("demo/known[x]", {"demo/known": set("abcdefghij")}, "'demo/known[x]' matches none of a, b, c, d, e, f, g, h"),
    ],
)
def test_waivers_of_cases_that_are_not_there(read, id, collected, said):
    """A waiver that names cases of a collected requirement, none of which there is, is named."""
    found = waivers.without_case(read(id=f'"{id}"'), collected)

    wanted = f"waivers.toml, line 2 (D0) is about no test case: {said}. Mend the id or remove the waiver"
    assert found == ([wanted] if said else [])

"""Conditions on the stack: which tables are conditions, and on which stacks they hold."""

import pytest

from reports import conditions
from reports.conditions import Conditions, Facts

KNOWN = Facts("Ascend910B3", "8.2.0", {"torch_npu": "2.13.0", "deepspeed": None, "odd": "not a version"})


@pytest.mark.parametrize(
    ("entries", "holds"),
    [
        ({}, True),
        ({"soc": ("Ascend910B*",)}, True),
        ({"soc": ("Ascend910A*", "Ascend910B3")}, True),
        ({"soc": ("Ascend910A*",)}, False),
        ({"soc": ("ascend910b*",)}, False),
        ({"cann": ">=8.2"}, True),
        ({"cann": "<8.2"}, False),
        ({"torch_npu": "<=2.13.0"}, True),
        ({"torch_npu": "<2.13.0"}, False),
        ({"torch_npu": "absent"}, False),
        ({"deepspeed": "absent"}, True),
        ({"deepspeed": ">=0"}, False),
        ({"unheard-of": "absent"}, False),
        ({"unheard-of": ">=0"}, False),
        ({"odd": ">=0"}, False),
        ({"torch_npu": "<=2.13.0", "soc": ("Ascend310*",)}, False),
        ({"torch_npu": "<=2.13.0", "cann": ">=8", "soc": ("*",)}, True),
    ],
)
def test_a_condition_holds_where_all_of_its_entries_do(entries, holds):
    """Globs of chips, version specifiers and absence are decided by what is known of the stack."""
    assert Conditions(entries).hold(KNOWN) is holds


@pytest.mark.parametrize("entries", [{"soc": ("*",)}, {"cann": ">=0"}, {"torch_npu": "absent"}, {"torch_npu": ">=0"}])
def test_nothing_holds_of_what_is_not_known(entries):
    """An entry about something that is not known does not hold."""
    assert not Conditions(entries).hold(Facts())


def test_a_pre_release_is_a_release():
    """A specifier takes pre-releases, which nightly stacks have."""
    assert Conditions({"torch": ">=2.13"}).hold(Facts(versions={"torch": "2.14.0.dev20261101"}))


@pytest.mark.parametrize(
    ("table", "entries", "plain", "said"),
    [
        ({}, {}, {}, "always"),
        ({"soc": "Ascend910*"}, {"soc": ("Ascend910*",)}, {"soc": ["Ascend910*"]}, "soc Ascend910*"),
        ({"soc": ["a", "b"]}, {"soc": ("a", "b")}, {"soc": ["a", "b"]}, "soc a or b"),
        (
            {"soc": "a", "torch": "<3"},
            {"soc": ("a",), "torch": "<3"},
            {"soc": ["a"], "torch": "<3"},
            "soc a, torch <3",
        ),
        (
            {"cann": "<9", "torch": "absent"},
            {"cann": "<9", "torch": "absent"},
            {"cann": "<9", "torch": "absent"},
            "cann <9, torch absent",
        ),
    ],
)
def test_a_table_is_read(table, entries, plain, said):
    """A table becomes entries; they are written as they are read, and said in words."""
    read = conditions.parse(table)

    assert (read.entries, read.plain(), str(read)) == (entries, plain, said)
    assert conditions.parse(read.plain()) == read


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            "torch<2",
            "expected a table such as { torch_npu = '<=2.13.0', soc = 'Ascend910B*' }, found 'torch<2'",
        ),
        ({"torch": 2}, "torch: expected a version specifier such as '<=2.13.0', found 2"),
        ({"torch": "2.13"}, "torch: Invalid specifier: '2.13'; write, for example, '<=2.13.0'"),
        ({"cann": "absent"}, "cann: Invalid specifier: 'absent'; write, for example, '<=2.13.0'"),
        ({"soc": 1}, "expected a pattern or a list of patterns, found 1"),
        ({"soc": []}, "expected a pattern or a list of patterns, found []"),
        ({"soc": ["a", 1]}, "expected a pattern or a list of patterns, found ['a', 1]"),
        ({"soc": ""}, "expected a pattern or a list of patterns, found ''"),
    ],
)
def test_a_malformed_table_is_refused(table, said):
    """What is wrong is said, with what was found."""
    with pytest.raises(ValueError) as caught:
        conditions.parse(table)

    assert str(caught.value) == said


def test_the_distributions_of_a_condition():
    """The chip and CANN are no distributions."""
    assert Conditions({"soc": ("*",), "torch": "<3", "cann": "<9", "peft": "absent"}).distributions == ("torch", "peft")


@pytest.mark.parametrize(
    ("header", "stacks", "facts"),
    [
        ({}, [], Facts()),
        ({"chip": "A", "cann": {"version": "8"}, "versions": {"a": "1"}}, [], Facts("A", "8", {"a": "1"})),
        ({"chip": "A"}, [{"chip": None}, {"chip": "B"}, {"chip": "C"}], Facts("B")),
        ({"chip": 5, "cann": None, "versions": None}, [{}], Facts()),
    ],
)
def test_the_facts_of_a_journal(header, stacks, facts):
    """The chip is the first that a worker named, else the header's; what is missing is not known."""
    assert conditions.facts_of(header, stacks) == facts

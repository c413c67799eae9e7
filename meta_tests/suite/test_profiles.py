"""``pytest --profile``: what it runs, and that nothing required can be left out without being noticed."""

import sys

import pytest

PROFILES = """
[[profile]]
name = "small"
sentence = "Small things work."
include = [{ id = "demo/*", level = "core" }]
exclude = [{ feature = "checkpoint" }]

[[profile.unless]]
feature = "bf16"
when = { no-such-thing = "absent", pytest = ">=1" }
reason = "it has no bf16"
"""
TESTS = """
@pytest.mark.host
@pytest.mark.parametrize("precision", ["fp16", pytest.param("bf16", marks=pytest.mark.bf16)])
@requirement("demo/half")
def test_half(evidence, precision):
    '''Half precision works.'''
    if precision == "bf16":
        unsupported("this chip has no bf16")
    evidence.check_equal("sum", 4, 4)

@pytest.mark.host
@requirement("demo/whole")
def test_whole(evidence):
    '''Whole numbers work.'''
    evidence.check_equal("sum", {sum}, 4)

@pytest.mark.host
@pytest.mark.checkpoint
@requirement("demo/saved")
def test_saved():
    '''A saved thing is there.'''
    assert 1 == 2, "of another profile"

@pytest.mark.host
@requirement("demo/extra", level="extended")
def test_extra():
    '''An extra thing works.'''
    assert 1 == 2, "of another profile"
"""
FILES = {"profiles.toml": PROFILES}


def code(sum="4", more="") -> str:
    """The tests, of which test_whole measures ``sum`` where 4 is expected."""
    return TESTS.replace("{sum}", sum) + more


def profile(*arguments: str) -> tuple[str, ...]:
    """Command line of a run under the profile."""
    return ("--profile", "small", *arguments)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_profile_runs_what_it_requires(suite, workers):
    """A run under a profile executes its requirements alone, names it in the verdict, and succeeds if it conforms."""
    ran = suite(code(), *profile("-n", workers), files=FILES)

    assert ran.outcomes == {"test_half[fp16]": "PASS", "test_half[bf16]": "UNSUPPORTED", "test_whole": "PASS"}
    assert ran.verdict == "verdict: CONFORMANT to small on no card: 2 passed"
    assert ran.returncode == 0
    plan = next(record for record in ran.records if record["type"] == "selection")["profile"]
    assert [one["id"] for one in plan["required"]] == ["demo/half", "demo/whole"]
    assert plan["deselected"] == []


def test_a_failure_under_a_profile(suite):
    """A required test that fails makes the run NOT CONFORMANT to the profile."""
    ran = suite(code("5"), *profile("-n", "0"), files=FILES)

    assert ran.verdict == "verdict: NOT CONFORMANT to small on no card: 1 passed, 1 FAIL"
    assert ran.returncode == 1


SKIPPED = """
@requirement("demo/skipped")
def test_skipped():
    '''A skipped thing works.'''
    pytest.skip("no time")
"""


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize(
    ("arguments", "more", "said"),
    [
        (("-k", "half"), "", "demo/whole is required and was not selected"),
        (("-m", "not bf16"), "", None),
        (("-k", "not fp16"), "", "tests/test_written.py::test_half[fp16] is required and was deselected"),
        (("--deselect", "tests/test_written.py::test_whole"), "", "demo/whole is required and was not selected"),
        (("tests/test_written.py::test_whole",), "", "demo/half is required and was not selected"),
        ((), SKIPPED, "tests/test_written.py::test_skipped is required and ended NOT_RUN: no time"),
        ((), SKIPPED.replace('pytest.skip("no time")', 'unsupported("too old")'),
         "tests/test_written.py::test_skipped is required and ended UNSUPPORTED: too old"),
    ],
)  # fmt: skip
def test_what_is_left_out(suite, workers, arguments, more, said):
    """A required test that is skipped, unsupported or deselected makes the run INCOMPLETE and its exit code 1.

    What the profile excuses on this stack (bf16 here) may be unsupported or deselected.
    """
    ran = suite(code(more=more), *profile("-n", workers, *arguments), files=FILES)

    if said is None:
        assert ran.verdict == "verdict: CONFORMANT to small on no card: 2 passed"
        assert ran.returncode == 0
        return
    assert f"required and left open:\n  {said}\n" in ran.stdout
    assert ran.verdict.startswith("verdict: INCOMPLETE to small on no card: ")
    assert ran.verdict.endswith("; 1 required left open")
    assert ran.returncode == 1


@pytest.mark.parametrize(
    ("condition", "excused"),
    [
        ('{ no-such-thing = "absent" }', True),
        ('{ pytest = ">=1" }', True),
        ('{ pytest = "<1" }', False),
        ('{ pytest = "absent" }', False),
        ('{ soc = "Ascend910A" }', False),
        ('{ cann = ">=8" }', False),
    ],
)
def test_excuses_hold_where_their_condition_does(suite, condition, excused):
    """What is unsupported counts against the claim unless the profile's condition holds on this stack."""
    files = {"profiles.toml": PROFILES.replace('{ no-such-thing = "absent", pytest = ">=1" }', condition)}

    ran = suite(code(), *profile("-n", "0"), files=files)

    assert ran.verdict.startswith(f"verdict: {'CONFORMANT' if excused else 'INCOMPLETE'} to small")


def test_the_chip_excuses(suite, built):
    """A condition on the SoC is decided by the chip that torch_npu names."""
    always = '{ no-such-thing = "absent", pytest = ">=1" }'
    files = {"profiles.toml": PROFILES.replace(always, '{ soc = "Ascend910A" }')}
    claims = {}
    for chip in ("Ascend910A", "Ascend910B3"):
        arguments = profile("-n", "1", "--run-dir", chip)
        ran = suite(code(more=CARD), *arguments, files=files, env={"NPU_EMULATOR_SOC": chip}, emulated=True)
        claims[chip] = ran.verdict.split(" on ")[0]

    assert claims == {"Ascend910A": "verdict: CONFORMANT to small", "Ascend910B3": "verdict: INCOMPLETE to small"}


CARD = """
@requirement("demo/card")
def test_card(npu, evidence):
    '''A card adds.'''
    import torch
    evidence.check_equal("sum", float(torch.ones(4, device=npu).sum().cpu()), 4.0)
"""


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (PROFILES, ("--profile", "smal"), "--profile smal: no such profile in profiles.toml: small"),
        (PROFILES, profile("tests/test_written.py::test_half[fp16]"), "judges whole requirements: give no single case"),
        ("[[profile]]\nname = 3\n", profile(), "profiles.toml, line 1: expected a name and a sentence"),
        (PROFILES + PROFILES, profile(), "profiles.toml, line 13: a second profile 'small'; give it another name"),
        (PROFILES.replace("exclude", "omit"), profile(), "profiles.toml, line 2: unknown omit"),
        (PROFILES.replace("feature", "mark"), profile(), "a selector has id, feature, level; this one: unknown mark"),
        (PROFILES.replace("demo/*", "other/*"), profile(), "profile 'small' selects no requirement of the suite; mend"),
        (PROFILES.replace('">=1"', '"one"'), profile(), "pytest: Invalid specifier: 'one'"),
        (PROFILES.replace('{ no-such-thing = "absent", pytest = ">=1" }', "{}"), profile(), "would always hold"),
        ("\x00", profile(), "profiles.toml: not TOML"),
    ],
)
def test_profiles_that_cannot_be_meant(suite, content, arguments, message):
    """An unknown or malformed profile is refused before any test runs, with file, line and what is wrong."""
    ran = suite(code(), *arguments, "-n", "0", files={"profiles.toml": content})

    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in ran.stderr, ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    assert not (ran.directory / "run").exists()


def test_a_suite_without_profiles(suite):
    """Without profiles.toml, --profile is refused; without --profile, nothing is asked of the file."""
    assert "profiles.toml: cannot be read" in suite(code(), *profile("-n", "0")).stderr
    assert suite(code(), "-n", "0", "-k", "whole", files={"profiles.toml": "\x00"}).returncode == 0


def test_a_resumed_run_keeps_its_profile(suite, pytester):
    """A run that is resumed answers the profile that it was begun for, with the tests of all its sessions."""
    later = SKIPPED.replace('pytest.skip("no time")', "assert 1 + 1 == 2").replace(
        "@requirement", "@pytest.mark.host\n@requirement"
    )
    stopped = suite(code("5", later), *profile("-n", "0", "-x"), files=FILES)
    assert stopped.outcomes["test_skipped"] == "NOT_RUN"

    done = pytester.run(sys.executable, "-m", "pytest", "-n", "0", "--resume=run")

    assert done.stdout.str().rstrip().endswith("verdict: NOT CONFORMANT to small on no card: 2 passed, 1 FAIL")
    assert done.ret == 1

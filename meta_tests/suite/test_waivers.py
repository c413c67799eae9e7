"""waivers.toml in a run: what it excuses, what it does not, and what makes a waiver itself a failure."""

import pytest

TEST = """
{marks}
@pytest.mark.host
@requirement("demo/known")
def test_known(evidence{argument}):
    '''A broken thing works.'''
    evidence.check_equal("sum", {sum}, 4)
"""
WAIVER = """
[[waiver]]
id = {id!r}
defect = "D0"
kind = "torch"
reason = "it is broken"
link = "https://example.org/1"
owner = "somebody"
when = {when}
error = {error!r}
outcome = {outcome!r}
expires = {expires}
"""
NEVER = "2999-12-31"


def written(sum="5", marks="", argument="") -> str:
    """A test that measures ``sum`` where 4 is expected."""
    return TEST.format(sum=sum, marks=marks, argument=argument)


def waiver(
    id="demo/known", when='{ pytest = ">=1" }', error="AssertionError: .*", outcome="FAIL", expires=NEVER
) -> dict[str, str]:
    """A waivers.toml with one waiver, as ``files`` of a run."""
    return {"waivers.toml": WAIVER.format(id=id, when=when, error=error, outcome=outcome, expires=expires)}


@pytest.mark.parametrize(
    ("sum", "change", "outcome", "code"),
    [
        ("5", {"error": "(?s)AssertionError: .*sum equal to 4"}, "XFAIL", 0),
        ("4", {}, "XPASS", 1),
        ("5", {"error": "KeyError: .*"}, "FAIL", 1),
        ("5", {"outcome": "VACUOUS"}, "FAIL", 1),
        ("5", {"when": '{ pytest = "<1" }'}, "FAIL", 1),
        ("4", {"when": '{ pytest = "<1" }'}, "PASS", 0),
        ("5", {"when": '{ pytest = ">=1", cann = ">=8" }'}, "FAIL", 1),
        ("5", {"when": '{ pytest = ">=1", no-such-thing = "absent" }'}, "XFAIL", 0),
        ("5", {"when": '{ pytest = "absent" }'}, "FAIL", 1),
        ("5", {"when": '{ soc = "Ascend910*" }'}, "FAIL", 1),
        ("5", {"expires": "2020-01-01"}, "FAIL", 1),
        ("4", {"expires": "2020-01-01"}, "XPASS", 1),
    ],
)
def test_waivers_are_held_to_their_word(suite, sum, change, outcome, code):
    """A failure is waived only with the stated outcome and error, on the stated stack, until the stated day."""
    ran = suite(written(sum), "-n", "0", files=waiver(**change))

    assert ran.outcomes == {"test_known": outcome}, ran.stdout
    assert ran.returncode == code
    assert ("D0 in demo/known (until 2999-12-31)" in ran.stdout) is (outcome == "XFAIL")


@pytest.mark.parametrize("workers", ["0", "1"])
def test_the_journal_keeps_waivers(suite, workers):
    """The journal has all waivers of the run, and with a waived test the one that waived it and the error it found."""
    ran = suite(written(), "-n", workers, files=waiver())

    selection = next(record for record in ran.records if record["type"] == "selection")
    assert selection["waivers"][0]["defect"] == "D0"
    assert selection["waivers"][0]["place"] == "waivers.toml, line 2"
    assert selection["waiver_problems"] == []
    kept = ran.tests["test_known"]["waiver"]
    assert kept["when"] == {"pytest": ">=1"}
    assert "expected:    sum equal to 4" in kept["found"]
    assert ran.tests["test_known"]["reason"] == "D0: it is broken"


@pytest.mark.parametrize(
    ("sum", "change", "message"),
    [
        ("4", {}, "[XPASS(strict)] waivers.toml, line 2 (D0) holds for pytest >=1, but the test passes. "
         "Narrow its `when` to the versions that fail, or remove it"),
        ("5", {"error": "KeyError: x"}, "not waived: waivers.toml, line 2 (D0) expects FAIL with an error that matches "
         "'KeyError: x'; found FAIL"),
        ("5", {"expires": "2020-01-01"}, "waivers.toml, line 2 (D0) expired on 2020-01-01. See whether the defect is"),
        ("5", {"expires": "2020-01-01"}, "not waived: waivers.toml, line 2 (D0) expired on 2020-01-01; see whether"),
    ],
)  # fmt: skip
def test_what_a_reader_is_told(suite, sum, change, message):
    """Where a waiver does not excuse a test, the summary says which one, where it stands, why not, and what to do."""
    assert message in suite(written(sum), "-n", "0", files=waiver(**change)).stdout


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize(
    ("id", "message"),
    [
        ("demo/other", "is about no requirement: 'demo/other' matches none. Mend the id or remove the waiver"),
        ("demo/known[fp32]", "is about no test case: 'demo/known[fp32]' matches none of bf16, fp16. Mend the id or"),
    ],
)
def test_waivers_about_nothing(suite, workers, id, message):
    """A waiver that is about no test makes the run INCOMPLETE and its exit code 1, whatever passes."""
    marks = '@pytest.mark.parametrize("number", [1, 2], ids=["fp16", "bf16"])'

    ran = suite(written("4", marks, ", number"), "-n", workers, files=waiver(id=id))

    assert set(ran.outcomes.values()) == {"PASS"}
    assert message in ran.stdout
    assert ran.verdict == "verdict: INCOMPLETE on no card: 1 passed; 1 waiver out of order"
    assert ran.returncode == 1


def test_waivers_of_tests_that_were_not_chosen(suite):
    """A waiver of a requirement, or of a case, that this run was not asked for is no problem."""
    other = written("4").replace("test_known", "test_more").replace("demo/known", "demo/more")
    marks = '@pytest.mark.parametrize("number", [1, 2], ids=["fp16", "bf16"])'
    files = waiver(id="demo/known[bf16]")

    by_name = suite(written("5", marks, ", number") + other, "-n", "0", "-k", "test_more", files=files)

    assert by_name.returncode == 0
    (by_name.directory / "run/journal.jsonl").unlink()
    by_case = suite(
        written("5", marks, ", number") + other, "-n", "0", "tests/test_written.py::test_known[fp16]", files=files
    )
    assert by_case.outcomes == {"test_known[fp16]": "FAIL"}
    assert "out of order" not in by_case.stdout


def test_waivers_of_cases(suite):
    """A waiver of one case of a parametrised test excuses that case alone; a glob may cover several."""
    marks = '@pytest.mark.parametrize("number", [1, 2, 3], ids=["fp16-a", "fp16-b", "bf16-a"])'

    ran = suite(written("5", marks, ", number"), "-n", "0", files=waiver(id="demo/kn*[fp16-*]"))

    assert ran.outcomes == {
        "test_known[fp16-a]": "XFAIL",
        "test_known[fp16-b]": "XFAIL",
        "test_known[bf16-a]": "FAIL",
    }


def test_a_waived_test_alone_is_no_conformance(suite):
    """A run in which nothing passed is INCOMPLETE, even if all that failed was waived."""
    assert suite(written(), "-n", "0", files=waiver()).verdict == "verdict: INCOMPLETE on no card: 1 waived"


DEADLY = """
import os, signal

@pytest.mark.host
@requirement("demo/known")
def test_known():
    '''A deadly thing works.'''
    os.kill(os.getpid(), signal.SIGSEGV)
"""


@pytest.mark.parametrize(
    ("outcome", "error", "found"),
    [("CRASH", "Segmentation fault", "XFAIL"), ("CRASH", "Bus error", "CRASH"), ("FAIL", "Segmentation", "CRASH")],
)
def test_a_death_can_be_waived(suite, outcome, error, found):
    """A process that dies as a waiver states is an expected failure; one that dies otherwise is a crash."""
    ran = suite(DEADLY, "-n", "1", files=waiver(outcome=outcome, error=error))

    assert ran.outcomes == {"test_known": found}, ran.stdout
    assert ran.returncode == (0 if found == "XFAIL" else 1)


MALFORMED = {
    "no TOML": ("[[waiver]\n", "waivers.toml: not TOML: Expected ']]' at the end of an array declaration (at line 1, "),
    "binary": ("\x00\x01", "waivers.toml: not TOML: "),
    "deep": ("x = " + "[" * 100_000, "waivers.toml: not TOML: "),
    "another table": ("[[waivers]]\n", "waivers.toml: expected nothing but [[waiver]] tables; found waivers"),
    "no table": ("waiver = 3\n", "waivers.toml: expected nothing but [[waiver]] tables; waiver is something else"),
    "empty": ("[[waiver]]\n", "line 1: no id, defect, kind, reason, link, owner, error, when, expires"),
    "unknown field": (waiver()["waivers.toml"] + "until = 3\n", "line 2: unknown until"),
    "kind": (waiver()["waivers.toml"].replace('"torch"', '"mine"'), "line 2: kind: 'mine' is none of transformers, "),
    "link": (waiver()["waivers.toml"].replace("https:", "javascript:"), "line 2: link: expected an address (https://"),
    "date": (waiver(expires='"soon"')["waivers.toml"], "line 2: expires: expected a date such as 2027-05-25, without"),
    "pattern": (waiver(error="(")["waivers.toml"], "line 2: error: no regular expression: "),
    "any error": (waiver(error=".*")["waivers.toml"], "line 2: error: '.*' matches any error; name the one that is"),
    "outcome": (waiver(outcome="PASS")["waivers.toml"], "line 2: outcome: 'PASS' is none of FAIL, CRASH, TIMEOUT, "),
    "version": (waiver(when='{ torch = "two" }')["waivers.toml"], "line 2: when: torch: Invalid specifier: 'two'"),
    "no condition": (waiver(when="{}")["waivers.toml"], "line 2: when: empty; a defect is one of some version"),
    "case": (waiver(id="demo/known[a")["waivers.toml"], "line 2: id: expected 'library/id' or 'library/id[case]'"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_waivers(suite, what):
    """A malformed waivers.toml is refused before any test runs, with file, line, what is wrong and what to do."""
    content, message = MALFORMED[what]

    ran = suite(written(), "-n", "1", files={"waivers.toml": content})

    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: waivers.toml, {message}" in ran.stderr.replace(f"{ran.directory}/", "") or (
        f"ERROR: {message}" in ran.stderr.replace(f"{ran.directory}/", "")
    ), ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    assert not (ran.directory / "run").exists()


def test_the_chip_decides(suite, built):
    """A condition on the SoC is decided by the name that torch_npu gives the card, also where a child has to ask."""
    for soc, outcome in (("Ascend910B*", "XFAIL"), ("Ascend310*", "FAIL")):
        ran = suite(
            written(), "-n", "1", "--run-dir", soc[:9], emulated=True, files=waiver(when=f'{{ soc = "{soc}" }}')
        )
        assert f"1 {'waived' if outcome == 'XFAIL' else 'FAIL'}" in ran.verdict

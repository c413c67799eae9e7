"""The page of a run has the evidence of its journal, runs nothing that a journal brings, and asks the network for
nothing.
"""

import base64
import hashlib
import json
import re
import zlib
from html.parser import HTMLParser

import pytest
from made_runs import ended, made, planned, records, write

from reports import __main__, page, run_page
from reports.outcome import Outcome
from reports.run import load

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}\u2028"
CURVE = [1.0, 0.8, 0.5, 0.3]
USED = {"first": (0.1, 1e-6), "second": (0.2, 1e-5), "mean": (0.7, 1e-3), "signed mean": (0.1, 1e-3)}
CHECKS = [
    {
        **{"check": "loss", "statistic": f"{part} relative difference", "passed": True},
        **{"headroom": used, "measured": used * limit, "limit": limit},
    }
    for part, (used, limit) in USED.items()
]
SPEED = {"workload": "Bert()", "world_size": 2, "step_seconds": [0.02, 0.03, 0.02], "examples_per_step": 16}
WAIVER = {"defect": "D1", "reason": "it is broken", "link": "https://example.org/1", "expires": "2027-05-25"}


def with_curve(**more) -> dict:
    """A passed test whose loss follows the CPU's."""
    values = {"loss": [1.0, 0.8001, 0.5, 0.3], "loss (reference)": CURVE}
    return ended("PASS", "demo/curve", values=values, checks=CHECKS, **more)


class Elements(HTMLParser):
    """All elements of a page: (tag, attributes, text)."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), ""))

    def handle_data(self, data):
        if self.found:
            tag, attributes, text = self.found[-1]
            self.found[-1] = (tag, attributes, text + data)

    def of(self, tag: str) -> list[tuple[dict, str]]:
        return [(attributes, text) for found, attributes, text in self.found if found == tag]


def page_of(tmp_path, *tests, **more) -> Elements:
    return Elements(run_page.html(load(made(tmp_path / "run", *tests, **more))).decode())


def data_of(elements: Elements) -> dict:
    return next(json.loads(text) for attributes, text in elements.of("script") if attributes.get("id") == "data")


def details_of(elements: Elements) -> list[dict]:
    parts = [text for attributes, text in elements.of("script") if attributes.get("id", "").startswith("part-")]
    return [detail for part in parts for detail in json.loads(zlib.decompress(base64.b64decode(part)))]


def text_of(elements: Elements) -> str:
    return " ".join(text for tag, _, text in elements.found if tag not in ("script", "style"))


def test_failures_come_first_with_what_to_do(tmp_path):
    """Verdict, failed tests and their reproduce commands are readable without JavaScript."""
    text = text_of(page_of(tmp_path, ended("PASS"), ended("FAIL", "demo/broken")))

    assert "NOT CONFORMANT" in text
    assert "expected: 4\nmeasured: 5" in text
    assert 'python -m emulator pytest -n 0 "tests/demo/test_written.py::test_broken"' in text
    assert "EMULATED" in text


def test_a_real_card_is_not_called_emulated(tmp_path):
    """Only the page of an emulated run says EMULATED."""
    elements = page_of(
        tmp_path, ended("PASS"), header={"emulated": False, "cann": {"version": "9.1.0"}, "driver": "25.5"}
    )

    assert "EMULATED" not in text_of(elements)
    assert "9.1.0" in text_of(elements)


def test_all_outcomes_and_tests_are_there(tmp_path):
    """Each test is in the list with its outcome, worst first, and every outcome has words in both languages."""
    tests = [ended(outcome.value, f"demo/{outcome.value.lower().replace('_', '-')}") for outcome in Outcome]

    data = data_of(page_of(tmp_path, *tests))

    assert sorted(data["tests"]) == sorted(test["nodeid"] for test in tests)
    assert {data["outcomes"][index] for index in data["outcome"]} == set(Outcome.__members__)
    assert data["outcomes"][data["outcome"][0]] == "DEVICE_LOST"
    assert data["outcomes"][data["outcome"][-1]] == "UNSUPPORTED"
    for outcome in Outcome:
        assert len(page.words()[outcome.value]) == len(page.words()[f"{outcome.value}_means"]) == 2


def test_the_matrix_says_what_is_beside_passed(tmp_path):
    """A cell counts requirements by their worst test and names failed, waived and open ones."""
    elements = page_of(
        tmp_path,
        ended("PASS", "demo/a", features=["fp16"]),
        ended("XFAIL", "demo/b", features=["fp16"], waiver=WAIVER),
        ended("FAIL", "demo/a", case="2", features=["bf16"]),
        ended("UNSUPPORTED", "demo/c", features=["fp16"]),
    )

    cells = [attributes for attributes, _ in elements.of("button") if "data-library" in attributes]

    assert [(cell["data-feature"], cell["class"]) for cell in cells] == [
        ("bf16", "o-bad"),
        ("fp16", "o-known"),
        ("", "o-bad"),
    ]
    assert "1/2" in text_of(elements)


def test_evidence_of_a_test(tmp_path):
    """A test's details have its curve as a plot with a band, its checks with what they used, ranks, fall-backs, log."""
    test = with_curve(
        findings=[{"kind": "cpu-fallback", "operator": "aten::i0"}, {"kind": "slow", "why": "cold"}],
        performance=[{**SPEED, "peak_bytes": 2**20}],
        log="the end of the log",
    )
    test["values"]["ranks"] = [
        {"end": "died", "detail": "killed by SIGKILL"},
        {"rank": 1, "end": "finished", "facts": {"card": 3}},
    ]

    (detail,) = details_of(page_of(tmp_path, test))

    (curve,) = detail["curves"]
    assert (curve["name"], curve["band"]) == ("loss", True)
    assert curve["svg"].startswith("<svg ")
    assert "var(--band)" in curve["svg"]
    assert "<style" not in curve["svg"]
    assert [check["used"] for check in detail["checks"]] == [0.1, 0.2, 0.7, 0.1]
    assert detail["fallbacks"] == ["aten::i0"]
    assert detail["findings"] == [{"kind": "slow", "why": "cold"}]
    assert [rank["end"] for rank in detail["ranks"]] == ["died", "finished"]
    assert detail["performance"][0]["throughput"] == 800
    assert detail["log"] == "the end of the log"
    assert "ranks" not in detail["values"]


def test_what_needs_a_look_is_drawn(tmp_path):
    """With fewer plots than curves, those of failed tests are drawn, then those closest to a limit."""
    failed = {**with_curve(), "outcome": "FAIL", "nodeid": "a::failed"}
    passed = [
        {**with_curve(), "nodeid": f"a::{number}", "checks": [{**CHECKS[0], "headroom": number / 10}]}
        for number in range(5)
    ]
    run = load(write(tmp_path, records([*passed, failed])))

    elements = Elements(run_page.html(run, curves=2).decode())

    drawn = [bool(detail["curves"][0]["svg"]) for detail in details_of(elements)]
    assert dict(zip(data_of(elements)["tests"], drawn, strict=True)) == {
        **{f"a::{number}": number == 4 for number in range(5)},
        "a::failed": True,
    }


@pytest.mark.parametrize(
    "name", ["nodeid", "requirement", "sentence", "reason", "reproduce", "library", "level", "log"]
)
def test_markup_in_a_journal_stays_text(tmp_path, name):
    """No field of a record can bring an element or a script into the page."""
    harmless = page_of(tmp_path / "harmless", ended("FAIL"))
    test = ended("FAIL", **{"log": "", name: HOSTILE}) if name != "requirement" else {**ended("FAIL"), name: HOSTILE}
    run = load(write(tmp_path / "hostile", records([test])))

    elements = Elements(run_page.html(run).decode())

    tags = [tag for tag, _, _ in elements.found]
    assert tags.count("script") == [tag for tag, _, _ in harmless.found].count("script")
    assert "img" not in tags
    assert not [attributes for _, attributes, _ in elements.found if any(key.startswith("on") for key in attributes)]
    assert "49" not in text_of(elements).split()


def test_hostile_values_everywhere(tmp_path):
    """Values, checks, findings, waivers, ranks and headers of any kind make a page, and none a link that runs."""
    waiver = {"defect": HOSTILE, "reason": HOSTILE, "link": "javascript:alert(1)", "expires": 3}
    odd = [
        None,
        1,
        "x",
        [],
        {},
        {"check": None, "headroom": "nan"},
        {"headroom": "inf", "limit": "-inf"},
        {"headroom": [1]},
    ]
    tests = [
        ended("XFAIL", waiver=waiver, checks=odd, findings=odd, performance=odd),
        ended("PASS", "demo/b", values={"ranks": odd, "loss": ["nan"] * 4, "loss (reference)": [0] * 4}),
        ended("PASS", "demo/f", values={"\ud800": "\udfff"}),
        ended("PASS", "demo/c", values={"loss": [1e308, -1e308, 3], "loss (reference)": [1, 2]}, features=[HOSTILE]),
        ended("PASS", "demo/d", performance=[{"workload": 1, "step_seconds": [0, "nan", -1]}], log=HOSTILE),
        ended("PASS", "demo/e\ud800"),
    ]  # fmt: skip

    elements = page_of(tmp_path, *tests, header={"revision": None, HOSTILE: HOSTILE})

    assert not [a for a, _ in elements.of("a") if not a.get("href", "#").startswith(("#", "https://", "http://"))]
    assert len(details_of(elements)) == 6
    assert "img" not in [tag for tag, _, _ in elements.found]


def test_the_page_may_load_nothing(tmp_path):
    """No element refers to another file, and the page's policy allows its own script and nothing else."""
    text = run_page.html(load(made(tmp_path / "run", with_curve()))).decode()
    elements = Elements(text)

    assert not {tag for tag, _, _ in elements.found} & {"link", "img", "iframe", "object", "embed", "source"}
    assert not [attributes for _, attributes, _ in elements.found if "src" in attributes]
    policy = next(a["content"] for a, _ in elements.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    allowed = f"style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert policy == f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
    assert "url(" not in text
    assert "@import" not in text


def test_the_same_journal_makes_the_same_page(tmp_path):
    """A report is a function of the journal."""
    run = load(made(tmp_path / "run", with_curve(), ended("FAIL", "demo/b")))

    assert run_page.html(run) == run_page.html(run)


def test_a_killed_run(tmp_path):
    """A run without its end is shown as such, and what it did not reach as not run."""
    whole = records([ended("PASS"), ended("PASS", "demo/other")])
    run = load(write(tmp_path, whole[:-2]))

    elements = Elements(run_page.html(run).decode())

    assert "The run was killed" in text_of(elements)
    assert "INCOMPLETE" in text_of(elements)
    assert planned("demo/other")["nodeid"] in data_of(elements)["tests"]


def test_the_command_writes_beside_the_journal(tmp_path, capsys):
    """``python -m reports html RUN`` writes report.html there and says so; -o says otherwise."""
    made(tmp_path / "run", ended("PASS"))

    assert __main__.main(["html", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'run' / 'report.html'}\n"
    assert __main__.main(["html", str(tmp_path / "run"), "-o", str(tmp_path / "other.html")]) == 0
    assert (tmp_path / "other.html").read_bytes() == (tmp_path / "run/report.html").read_bytes()


def test_bad_input_leaves_the_old_report(tmp_path, capsys):
    """A journal that cannot be read is one message; the report that was there stays."""
    old = tmp_path / "report.html"
    old.write_text("old")
    (tmp_path / "journal.jsonl").write_text("no journal\n")

    assert __main__.main(["html", str(tmp_path), "-o", str(old)]) == 2
    assert __main__.main(["html", str(tmp_path / "missing"), "-o", str(old)]) == 2

    assert old.read_text() == "old"
    errors = capsys.readouterr().err
    assert errors.count("python -m reports html: ") == 2
    assert "Traceback" not in errors


def test_every_word_has_both_languages():
    """Each word has an English and a Chinese text with the same parts to fill in; what a page uses is there."""
    words = page.words()
    for key, pair in words.items():
        assert len(pair) == 2, key
        assert all(pair), key
        assert sorted(re.findall(r"\{\w+\}", pair[0])) == sorted(re.findall(r"\{\w+\}", pair[1])), key
    used = set()
    for file in page.files("reports").joinpath(page.FOLDER).iterdir():
        text = file.read_text(encoding="utf-8")
        used |= set(re.findall(r'data-t(?:-\w+)?="(\w+)"', text)) | set(re.findall(r'\bt\("(\w+)"', text))
        if file.name.endswith(".js"):
            used |= set(re.findall(r'\b(?:word|section|folded|copyButton|text)\("(\w+)"', text))
    assert used - set(words) == set()

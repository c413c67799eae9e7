"""The pages in a real browser: headless Chromium of the system, driven by playwright."""

import shutil

import pytest
from made_runs import ended, made, planned
from test_run_page import CHECKS, HOSTILE, WAIVER, with_curve

from reports import comparison, comparison_page, history, history_page, run_page
from reports.run import load

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (requirements-dev.txt)")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        # Tests may run as root and in a container, where Chromium has no sandbox and little shared memory.
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """opened(file, hash="", **options of the context) -> page, which afterwards must have said and asked nothing."""
    said, asked, contexts = [], [], []

    def open(file, hash="", **options):
        context = browser.new_context(**{"locale": "en-US", "viewport": {"width": 1200, "height": 800}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri() + hash)
        return page

    yield open
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith("file:")] == []
    assert len(asked) == len(contexts)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page of a run with something of everything."""
    directory = tmp_path_factory.mktemp("run")
    many = [ended("PASS", "other/many", case=str(number), features=["bf16"]) for number in range(200)]
    made(
        directory,
        with_curve(features=["fp16", "single_npu"]),
        ended("FAIL", "demo/broken", features=["fp16"], checks=[{**CHECKS[0], "passed": False, "headroom": 3.0}]),
        ended("XFAIL", "other/waived", waiver=WAIVER),
        *many,
    )
    file = directory / "report.html"
    file.write_bytes(run_page.html(load(directory)))
    return file


def rows(page) -> list[str]:
    return page.locator("#list .row .name").all_inner_texts()


def test_search_and_filters(opened, report):
    """Searching and filtering narrow the list, the count says so, and clearing brings everything back."""
    page = opened(report)
    assert page.locator("#shown").inner_text() == "203 of 203 tests"

    page.fill("#filter-q", "broken")
    assert rows(page) == [planned("demo/broken")["nodeid"]]
    page.fill("#filter-q", "")
    page.select_option("#filter-outcome", "XFAIL")
    assert rows(page) == [planned("other/waived")["nodeid"]]
    page.fill("#filter-q", "no such thing")
    assert page.locator("#nothing").is_visible()

    page.click("#clear")
    assert page.locator("#shown").inner_text() == "203 of 203 tests"


def test_only_rows_in_sight_exist(opened, report):
    """Of a long list the page has the rows in sight, and scrolling brings the others."""
    page = opened(report)
    page.select_option("#filter-sort", "name")
    page.locator("#tests").scroll_into_view_if_needed()
    assert len(rows(page)) < 60

    page.evaluate("scrollTo(0, document.body.scrollHeight)")

    page.locator("#list .name", has_text=planned("other/waived")["nodeid"]).wait_for()
    assert len(rows(page)) < 60


def test_language(opened, report):
    """One press says the interface, outcomes included, in Chinese; another in English; sentences stay as they are."""
    page = opened(report)
    assert "NOT CONFORMANT" in page.inner_text("h1")

    page.click("#language")
    assert page.inner_text("h1") == "不符合"
    assert page.locator("#list .row .outcome").first.inner_text() == "失败"
    assert page.locator("#list .row .sentence").first.inner_text() == "A thing works."
    assert page.get_attribute("html", "lang") == "zh"
    assert page.get_attribute("#filter-q", "placeholder").startswith("搜索")

    page.click("#language")
    assert page.inner_text("h1") == "NOT CONFORMANT"


def test_a_chinese_browser_sees_chinese(opened, report):
    """The page begins in the reader's language."""
    assert opened(report, locale="zh-CN").inner_text("h1") == "不符合"


def test_light_and_dark(opened, report):
    """The page follows the system, and the button overrules it."""
    background = "getComputedStyle(document.body).backgroundColor"
    light, dark = (opened(report, color_scheme=scheme) for scheme in ("light", "dark"))
    assert light.evaluate(background) != dark.evaluate(background)

    light.click("#theme")
    light.click("#theme")

    assert light.evaluate(background) == dark.evaluate(background)


def test_drill_down(opened, report):
    """A cell of the matrix leads to its tests, and a test to all of its evidence, the plot included."""
    page = opened(report)

    page.click('button[data-library="demo"][data-feature="fp16"]')
    assert rows(page) == [planned("demo/broken")["nodeid"], planned("demo/curve")["nodeid"]]
    page.click("#list .row:nth-child(2)")

    detail = page.locator("#detail")
    plot = detail.locator("svg.plot")
    plot.wait_for()
    assert plot.bounding_box()["width"] > 300
    lines = detail.locator("svg.plot path")
    assert "var(--card)" in "".join(lines.nth(number).get_attribute("style") or "" for number in range(lines.count()))
    assert "70 %" in detail.inner_text()
    assert 'python -m emulator pytest -n 0 "tests/demo' in detail.inner_text()

    page.keyboard.press("ArrowLeft")
    detail.get_by_text("3.00 ×").wait_for()
    page.keyboard.press("Escape")
    detail.wait_for(state="hidden")
    assert rows(page) == [planned("demo/broken")["nodeid"], planned("demo/curve")["nodeid"]]


def test_links_that_can_be_shared(opened, report):
    """The address of a test opens it, that of a filter filters, and an unknown one says so."""
    page = opened(report, "#tests/demo/test_written.py::test_curve")
    page.locator("#detail svg.plot").wait_for()
    assert "demo/curve" in page.inner_text("#detail")

    filtered = opened(report, "#?library=other&outcome=XFAIL")
    assert rows(filtered) == [planned("other/waived")["nodeid"]]
    assert opened(report, "#tests/nowhere.py::test").locator("#no-such-test").is_visible()


def test_a_phone(opened, report):
    """On a phone nothing is wider than the screen, closed or opened."""
    page = opened(report, viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]

    page.click("#list .row >> nth=0")

    page.locator("#detail article h2").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.locator("#detail").bounding_box()["width"] <= PHONE["width"]


def test_print(opened, report, tmp_path):
    """A printed page has every test of the list, on white, without buttons."""
    page = opened(report, color_scheme="dark")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")

    assert len(rows(page)) == 203
    assert page.locator("#language").is_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".watermark").is_visible()
    page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def test_hostile_journals_run_nothing(opened, tmp_path):
    """Markup in any field of a record is shown as text, in the list and in the opened test."""
    test = ended(
        "FAIL", reason=HOSTILE, log=HOSTILE, reproduce=HOSTILE, sentence=HOSTILE, features=[HOSTILE], library=HOSTILE
    )
    test |= {"nodeid": HOSTILE, "requirement": HOSTILE, "values": {HOSTILE: HOSTILE}, "worker": HOSTILE}
    test |= {"checks": [{"check": HOSTILE, "headroom": 2, "limit": 1}], "findings": [{"kind": HOSTILE}]}
    made(tmp_path / "run", test)
    file = tmp_path / "report.html"
    file.write_bytes(run_page.html(load(tmp_path / "run")))

    page = opened(file)
    page.click("#list .row")

    page.locator("#detail article h2").wait_for()
    assert page.inner_text("#detail h2").startswith("</script><script>alert(1)")
    assert page.locator("img").count() == 0


def test_without_javascript(opened, report):
    """Verdict, matrix and failures are there without JavaScript."""
    page = opened(report, java_script_enabled=False)

    assert page.inner_text("h1") == "NOT CONFORMANT"
    assert page.get_by_text("expected: 4").first.is_visible()


def test_a_comparison(opened, tmp_path):
    """The page of a comparison says what happened in both languages and lays the curves over each other."""
    sides = []
    for number, outcome in enumerate(("PASS", "FAIL")):
        made(tmp_path / str(number), {**with_curve(), "outcome": outcome, "reason": HOSTILE})
        sides.append([load(tmp_path / str(number))])
    file = tmp_path / "compare.html"
    file.write_bytes(comparison_page.html(comparison.compare(*sides), *sides, ("base", HOSTILE)))

    page = opened(file)
    assert page.inner_text("h1") == "REGRESSION"
    assert page.locator("svg.plot").bounding_box()["width"] > 300
    page.click("#language")
    assert page.inner_text("h1") == "有退化"
    assert page.locator("#regression").inner_text() == "退化: 1"
    phone = opened(file, viewport=PHONE)
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_history(opened, tmp_path):
    """The page of a history has plots, and its list can be narrowed to flaky tests."""
    for number, outcome in enumerate(("PASS", "FAIL", "PASS")):
        steady = [ended("PASS", "demo/steady", case=str(case)) for case in range(100)]
        made(tmp_path / f"runs/{number}", ended(outcome, "demo/odd"), *steady)
    file = tmp_path / "history.html"
    digests, left_out = history_page.load(tmp_path / "runs")
    file.write_bytes(history_page.html(history.history(digests), left_out, "runs"))

    page = opened(file)
    assert page.locator("svg.plot").count() == 2
    page.select_option("#filter-show", "flaky")
    assert rows(page) == [planned("demo/odd")["nodeid"]]
    colours = [
        page.locator(f"#list .strip i >> nth={n}").evaluate("e => getComputedStyle(e).backgroundColor")
        for n in range(3)
    ]
    assert colours[0] == colours[2] != colours[1]
    phone = opened(file, viewport=PHONE)
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_hundred_thousand_tests(opened, tmp_path):
    """The page of 100,000 tests opens, filters and opens a test; the rows that exist stay few."""
    tests = [{**ended("PASS", "demo/many"), "nodeid": f"tests/demo/test_many.py::test[{n:06}]"} for n in range(100_000)]
    made(tmp_path / "run", *tests)
    file = tmp_path / "report.html"
    file.write_bytes(run_page.html(load(tmp_path / "run")))

    page = opened(file)
    page.fill("#filter-q", "test[0999")
    assert page.locator("#shown").inner_text() == "100 of 100000 tests"
    page.locator("#tests").scroll_into_view_if_needed()
    page.click("#list .row >> nth=12")

    page.locator("#detail").get_by_text("tests/demo/test_many.py::test[099912]").first.wait_for()
    assert page.locator("#list .row").count() < 60

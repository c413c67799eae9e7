"""The trend over many runs: rates, headroom, time, memory, and which tests are flaky."""

import json

import pytest
from made_runs import ended, made, records, write

from reports import __main__, history_page
from reports.history import digest, flakiness, history
from reports.outcome import Outcome
from reports.run import load

P, F, N = Outcome.PASS, Outcome.FAIL, Outcome.NOT_RUN
HOSTILE = "</script><script>alert(1)</script>"


def timed(seconds: float, peak: int) -> dict:
    """What a test record says of a workload with steps of that length."""
    return {"workload": "Bert()", "world_size": 1, "step_seconds": [seconds] * 9, "peak_bytes": peak}


def check(used: float) -> dict:
    """A check that used so much of its limit."""
    return {"check": "loss", "statistic": "max", "passed": True, "headroom": used, "limit": 1.0}


def told(tmp_path, *runs, headers=None):
    """The history of runs, each a list of test records, one day after the other."""
    digests = []
    for number, tests in enumerate(runs):
        made(tmp_path / str(number), *tests, header=(headers or [{}] * len(runs))[number])
        found = load(tmp_path / str(number))
        digests.append(digest(found, str(number)))
    return history(digests)


@pytest.mark.parametrize(
    ("outcomes", "environments", "share"),
    [
        ([P, P, P], [0, 0, 0], 0),
        ([P, F, P, P], [0, 0, 0, 0], 0.25),
        ([P, P, F, F], [0, 0, 1, 1], 0),
        ([P, F, F, F], [0, 0, 1, 1], 0.25),
        ([P, None, N, P], [0, 0, 0, 0], 0),
        ([F, Outcome.CRASH], [0, 0], 0),
        ([None, N], [0, 0], 0),
    ],
)
def test_flaky_is_what_changes_without_the_environment(outcomes, environments, share):
    """A test that changes with its environment is not flaky; one that changes within it is."""
    assert flakiness(outcomes, environments) == share


def test_trends(tmp_path):
    """Pass rate, headroom, step time and memory are those of each run, time and memory relative to the first."""
    found = told(
        tmp_path,
        [ended("PASS", checks=[check(0.2)], performance=[timed(0.1, 100)]), ended("FAIL", "demo/b")],
        [ended("PASS", checks=[check(0.4)], performance=[timed(0.2, 300)]), ended("PASS", "demo/b")],
    )

    assert [point.pass_rate for point in found.points] == [0.5, 1.0]
    assert [point.headroom for point in found.points] == [0.2, 0.4]
    assert [point.time for point in found.points] == [1.0, 2.0]
    assert [point.memory for point in found.points] == [1.0, 3.0]
    (line,) = [line for line in found.lines if line.requirement == "demo/b"]
    assert (line.outcomes, line.changed) == ((F, P), True)


def test_the_environment_of_each_run(tmp_path):
    """What changed since the run before is told, and runs of one environment are known as such."""
    headers = [{"driver": driver} for driver in ("25.2", "25.2", "25.5", "25.2")]

    points = told(tmp_path, *[[ended()]] * 4, headers=headers).points

    assert [point.environment for point in points] == [0, 0, 1, 0]
    assert [point.changes for point in points] == [
        (),
        (),
        (("driver", "25.2", "25.5"),),
        (("driver", "25.5", "25.2"),),
    ]


def test_runs_are_in_the_order_of_time(tmp_path):
    """The order of a history is that of the headers' times, whatever the directories are called."""
    for name in ("b", "a"):
        made(tmp_path / name, ended())

    digests, _ = history_page.load(tmp_path)

    assert [point.digest.name for point in history(digests).points] == ["b", "a"]


def test_the_command(tmp_path, capsys):
    """The page and the JSON are written, what could not be read is named, and the rest is told all the same."""
    for number, outcome in enumerate(("PASS", "FAIL", "PASS")):
        made(tmp_path / f"nightly/{number}", ended(outcome, sentence=HOSTILE), header={"revision": HOSTILE})
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/journal.jsonl").write_text("{")

    assert __main__.main(["history", str(tmp_path), "--json", str(tmp_path / "facts.json")]) == 0

    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'history.html'}\n"
    assert captured.err.startswith(f"left out: {tmp_path}/damaged/journal.jsonl: no complete line")
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["tests"][0]["outcomes"] == ["PASS", "FAIL", "PASS"]
    assert facts["tests"][0]["flakiness"] == pytest.approx(1 / 3)
    page = (tmp_path / "history.html").read_text()
    assert page.count("<svg ") == 2
    assert "<script>alert" not in page
    assert "damaged/journal.jsonl" in page


def test_a_killed_run_is_part_of_the_history(tmp_path):
    """A run without its end is shown as such; what it did not reach is no failure and not flaky."""
    made(tmp_path / "a", ended(), ended("PASS", "demo/b"))
    write(tmp_path / "b", records([ended(), ended("PASS", "demo/b")])[:-2])

    digests, _ = history_page.load(tmp_path)
    found = history(digests)

    assert [point.digest.complete for point in found.points] == [True, False]
    assert [point.pass_rate for point in found.points] == [1.0, 1.0]
    assert [line.flakiness for line in found.lines] == [0, 0]
    assert "was killed" not in history_page.as_json(found, [])


@pytest.mark.parametrize("content", [None, "", "x\n"])
def test_bad_input(tmp_path, capsys, content):
    """A directory without a run that can be read is one message and exit code 2, and no page."""
    if content is not None:
        (tmp_path / "journal.jsonl").write_text(content)

    assert __main__.main(["history", str(tmp_path)]) == 2

    assert "no run beneath it that can be read" in capsys.readouterr().err
    assert not (tmp_path / "history.html").exists()

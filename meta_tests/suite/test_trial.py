"""The trial of the suite: its catalogue, how it judges, what it writes, and a small one from end to end."""

import fnmatch
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from meta_tests.trial import catalogue, lies, matrix, page
from meta_tests.trial.catalogue import CatalogueError, Fault
from meta_tests.trial.forks import MARK, Ran, Run, TestResult, chunks
from meta_tests.trial.targeted import Store
from reports import suite

ROOT = Path(__file__).resolve().parents[2]
FAULT = Fault("too-large", "forward", "Sums are too large.", ("demo/sum", "demo/mean"), "aclnnReduceSum:scale=2")
SUM, MEAN, OTHER = "t.py::test_sum[fp32]", "t.py::test_mean", "t.py::test_sum[fp16]"
OWNERS = {SUM: "demo/sum", OTHER: "demo/sum", MEAN: "demo/mean"}
WANTED = {"demo/sum[fp32]": [SUM], "demo/mean": [MEAN]}
FAMILIES = '[families]\nforward = "values"\n'
TABLE = FAMILIES + '[[fault]]\nid = "a"\nfamily = "forward"\nlie = "It lies."\nrequirements = ["x/y"]\n'


def result(nodeid, outcome="PASS", reason="", after=1.0, called=True):
    return TestResult(nodeid, outcome, reason, 0.5, after, called)


def judged(*results, fired=3, fault=FAULT):
    return matrix.row(fault, WANTED, OWNERS, [Ran(Run("r", WANTED), results, fired, 2.0, 1.0)])


# ---- the catalogue ----


def test_the_catalogue_is_in_order():
    """The catalogue has enough faults in every family, and each lie of a library is one that is told."""
    known = catalogue.read()

    assert len(known.faults) >= 80
    assert {fault.family for fault in known.faults} == set(known.families)
    assert {fault.patch for fault in known.faults if fault.patch} == set(lies.LIES)
    assert all(function.__doc__ for _, function in lies.LIES.values())


def test_faults_name_what_the_suite_requires():
    """Every requirement that a fault names is one of the suite, whatever was renamed since."""
    ids = [one.id for one in suite.declared(ROOT)]
    entries = [entry for fault in catalogue.read().faults for entry in fault.requirements]
    named = {part.strip().split("[")[0] for entry in entries for part in entry.split(",")}

    assert not {name for name in named if not fnmatch.filter(ids, name)}


def test_the_emulator_takes_every_line(built):
    """Every fault's line is one that the emulator understands."""
    lines = ";".join(fault.line for fault in catalogue.read().faults if fault.line)
    program = "import os; os.environ['NPU_EMULATOR_FAULTS'] = os.environ.pop('LINES'); import ctypes; "
    program += "ctypes.CDLL('libascendcl.so')"
    command = [sys.executable, "-m", "emulator", sys.executable, "-c", program]
    environment = {**os.environ, "LINES": lines}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TABLE, "expected either line (the card lies) or patch (a library lies)"),
        (TABLE + 'line = "x"\npatch = "y"', "expected either line"),
        (TABLE.replace('lie = "It lies."', 'lie = "It lies"') + 'line = "x"', "ends with a full stop"),
        (TABLE.replace('family = "forward"', 'family = "sideways"') + 'line = "x"', "unknown family 'sideways'"),
        (TABLE.replace('requirements = ["x/y"]', "requirements = []") + 'line = "x"', "requirements missing"),
        (TABLE + 'line = "x"\ncolour = "red"', "unknown colour; known are"),
        (TABLE + 'line = "x"\n' + TABLE.removeprefix(FAMILIES) + 'line = "x"', "the id 'a' stands there twice"),
        ("[families", "faults.toml"),
    ],
)
def test_a_malformed_catalogue_is_refused(tmp_path, text, said):
    """What is wrong with a fault is said, with the fault."""
    file = tmp_path / "faults.toml"
    file.write_text(text)

    with pytest.raises(CatalogueError) as caught:
        catalogue.read(file)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("demo/sum", [SUM, OTHER]),
        ("demo/sum[fp32]", [SUM]),
        ("demo/sum[fp*]", [SUM, OTHER]),
        ("demo/mean, demo/sum[fp16]", [MEAN, OTHER]),
        ("demo/*", [SUM, OTHER, MEAN]),
    ],
)
def test_an_entry_names_tests(entry, found):
    """An entry names requirements by their ids, and tests among them by their parameters."""
    tests = [{"nodeid": node, "requirement": id} for node, id in OWNERS.items()]

    assert catalogue.tests_of(entry, tests) == found


def test_an_entry_that_names_nothing_is_refused():
    """An entry without a test is refused, with the parameters that there are."""
    tests = [{"nodeid": node, "requirement": id} for node, id in OWNERS.items()]

    with pytest.raises(
        CatalogueError, match=r"no test of the suite proves 'demo/sum\[fp8\]'; its parameters are fp32, fp16"
    ):
        catalogue.tests_of("demo/sum[fp8]", tests)


# ---- judging ----


@pytest.mark.parametrize(
    ("results", "fired", "status", "missed"),
    [
        ([result(SUM, "FAIL"), result(MEAN, "CRASH")], 3, "killed", ()),
        ([result(SUM, "FAIL"), result(MEAN)], 3, "missed", ("demo/mean",)),
        ([result(SUM), result(OTHER, "FAIL"), result(MEAN, "FAIL")], 3, "missed", ("demo/sum[fp32]",)),
        ([result(SUM, "FAIL"), result(MEAN, "DEVICE_LOST")], 3, "missed", ("demo/mean",)),
        ([result(SUM, "FAIL"), result(MEAN, "FAIL", called=False)], 3, "missed", ("demo/mean",)),
        ([result(SUM), result(MEAN, "XFAIL")], 3, "survived", ("demo/sum[fp32]", "demo/mean")),
        ([result(SUM), result(MEAN, "INFRA")], 3, "survived", ("demo/sum[fp32]", "demo/mean")),
        ([result(SUM), result(MEAN)], 0, "not fired", ("demo/sum[fp32]", "demo/mean")),
        ([result(SUM, "FAIL"), result(MEAN)], 0, "impure", ("demo/mean",)),
        ([], 0, "not fired", ("demo/sum[fp32]", "demo/mean")),
    ],
)
def test_a_fault_is_judged(results, fired, status, missed):
    """A fault is killed where all that must catch it turn red; one that never fired is never called survived."""
    row = judged(*results, fired=fired)

    assert (row.status, row.missed) == (status, missed)


def test_a_cell_names_the_first_red_test():
    """A requirement's cell has the red test that came first, and what it measured."""
    late, early = result(SUM, "FAIL", after=9.0), result(OTHER, "FAIL", "expected:    1\nmeasured:    2", after=4.0)

    cell = judged(late, early).cells["demo/sum"]

    assert (cell.killed, cell.test, cell.after, cell.reason) == (True, OTHER, 4.0, "measured:    2")


def test_what_proves_a_requirement():
    """A requirement is proved by a silent fault that its own test caught, not by a crash, nor in the test's set-up."""
    crash = Fault("crash", "crash", "It crashes.", ("demo/sum",), "aclnnMm:crash")
    rows = [
        judged(result(SUM, "FAIL"), result(MEAN, "DEVICE_LOST", called=False)),
        judged(result(MEAN, "CRASH"), fault=crash),
    ]

    assert matrix.proofs(rows) == {"demo/sum": ["too-large"]}


def test_tests_of_one_file_stay_together():
    """Tests are parted by files, so that a process trains a workload once."""
    parts = chunks(["a.py::x", "b.py::x", "a.py::y", "c.py::x"], 2)

    assert sorted(map(sorted, parts)) == [["a.py::x", "a.py::y"], ["b.py::x", "c.py::x"]]


def test_results_are_kept_for_a_trial_that_goes_on(tmp_path):
    """What a run gave is found again by --resume for the same run alone; a new trial removes nothing but its own."""
    run, other = Run("r", (SUM,), {"A": "1"}), Run("r", (SUM,), {"A": "2"})
    ran = Ran(run, (result(SUM, "FAIL", "why"),), 3, 2.0, 1.0)
    (tmp_path / "mine.txt").write_text("mine")

    Store(tmp_path, resume=False).put(ran)
    going_on = Store(tmp_path, resume=True)

    assert going_on.get(run) == ran
    assert going_on.get(other) is None
    assert Store(tmp_path, resume=False).get(run) is None
    assert (tmp_path / "mine.txt").read_text() == "mine"


# ---- the page ----


def test_the_page_asks_the_network_for_nothing(tmp_path):
    """The page is one file; what comes from results is escaped."""
    hostile = Fault("x", "forward", "<script>alert(1)</script>.", ("demo/sum",), "aclnnMm:zero")
    row = judged(result(SUM, "FAIL", "<img src=x>"), result(MEAN), fault=hostile)
    requirements = {id: {"level": "core", "proved_by": [], "known_failure": None} for id in ("demo/sum", "demo/mean")}
    trial = {"made": "now", "mode": "targeted", "jobs": 1, "seconds": 3.0, "cpu": 2.0, "faults": [row.as_json()]}
    trial |= {"requirements": requirements, "unproven": ["demo/mean"]}
    (tmp_path / page.TRIAL).write_text(json.dumps(trial))

    text = page.write(tmp_path).read_text()

    assert "&lt;script&gt;" in text
    assert "&lt;img src=x&gt;" in text
    assert not [word for word in ("<script", "<img", "http:", "https:", "url(", "@import") if word in text]
    assert "demo/mean" in text


# ---- from end to end ----


def test_a_trial(tmp_path, built):
    """Faults that are caught, that crash the process, that hang it, and that never fire are told apart."""
    catalogue_of = """
import sys
from meta_tests.trial import catalogue
from meta_tests.trial.catalogue import Catalogue, Fault
of = lambda id, line, *names, **more: Fault(id, "forward", "It lies.", names, line, **more)
matmul, softmax = "runtime/operators-matmul[fp32]", "runtime/operators-softmax[fp32]"
faults = (
    of("caught", "aclnnMm:scale=1.01", matmul),
    of("survives", "aclnnMm:scale=1.01", matmul, softmax),
    of("crashes", "aclnnMatmul:crash@call=10", matmul, softmax),
    of("hangs", "aclnnMatmul:hang@call=10", matmul, deadline=8),
    of("never-fires", "aclnnErfinv:zero", softmax),
    Fault("library", "forward", "It lies.", ("runtime/libraries-see-the-card",), patch="peft_chooses_the_cpu"),
)
catalogue.read = lambda: Catalogue({"forward": ""}, faults)
from meta_tests.trial.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
    command = [sys.executable, "-m", "emulator", sys.executable, "-c", catalogue_of, "--jobs", "1", "--out", tmp_path]
    environment = {**os.environ, "NPU_EMULATOR_CARDS": "1", MARK: "here"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)

    assert (tmp_path / page.TRIAL).exists(), done.stdout + done.stderr
    trial = json.loads((tmp_path / page.TRIAL).read_text())
    seen = {fault["id"]: fault for fault in trial["faults"]}
    assert {id: fault["status"] for id, fault in seen.items()} == {
        **{"caught": "killed", "survives": "missed", "crashes": "missed", "hangs": "killed"},
        **{"never-fires": "not fired", "library": "killed"},
    }
    assert done.returncode == 1
    assert seen["crashes"]["cells"]["runtime/operators-matmul"]["outcome"] == "CRASH"
    assert seen["crashes"]["cells"]["runtime/operators-softmax"]["outcome"] == "PASS"
    assert seen["hangs"]["cells"]["runtime/operators-matmul"]["outcome"] == "TIMEOUT"
    assert trial["requirements"]["runtime/libraries-see-the-card"]["proved_by"] == ["library"]
    assert "runtime/operators-softmax" in trial["unproven"]
    assert (tmp_path / page.PAGE).exists()

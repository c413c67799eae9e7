"""The doctor on made-up boxes: a directory tree, an environment, a fake npu-smi; each ailment has its finding and its
fix.
"""

import functools
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from fixtures.doctor import compatibility, npu_smi
from fixtures.doctor.__main__ import examine, lines
from fixtures.doctor.box import Box
from meta_tests.boxes import CARD, HEAD, IDLE, PROCESSES, make, smi


@pytest.fixture
def box(tmp_path):
    """box(...) -> Box: healthy unless told otherwise (meta_tests/boxes.py)."""
    return functools.partial(make, tmp_path)


def problems(box: Box, level: str = "problem") -> dict[str, tuple[str, str]]:
    """Text and fix of what is not in order, by subject; each level by itself."""
    return {finding.subject: (finding.text, finding.fix) for finding in examine(box) if finding.level == level}


def test_a_healthy_box(box):
    """Nothing is wrong, and what was found is said: versions, cards, memory."""
    findings = examine(box())

    assert {finding.level for finding in findings} <= {"ok", "note"} | {
        finding.level for finding in findings if finding.subject in ("shared memory", "disk", "open files")
    }
    text = "\n".join(lines(findings))
    assert "2 cards, visible: 0, 1" in text
    assert "torch_npu 2.9.0 was made for CANN 8.5.0" in text
    assert "2 idle (910B3), at least 61 GiB free on each" in text
    assert text.endswith("the suite can run")


def test_no_driver(box):
    """Without a driver there is no card, and both say what to install."""
    found = problems(box(driver=False))

    assert "no NPU" in found["cards"][0]
    assert "install the driver" in found["cards"][1]
    assert "version.info is not there" in found["driver"][0]


def test_cann_is_not_sourced(box):
    """An installed CANN that is not sourced is found, and the fix names its script."""
    made = box(sourced=False)
    text, fix = problems(made)["CANN"]

    assert text.startswith("CANN is not sourced: libascendcl.so")
    assert fix == f"source {made.root / 'usr/local/Ascend/ascend-toolkit/set_env.sh'}"


def test_versions_that_do_not_belong_together(box):
    """A torch_npu for another CANN, and a torch for another torch_npu, come with one command that mends both."""
    found = problems(box(cann="8.2.RC1", versions={"torch": "2.8.0"}))

    assert found["versions"] == (
        "torch_npu 2.9.0 was made for CANN 8.5.0, found CANN 8.2.RC1",
        "pip install torch==2.6.0 torch_npu==2.6.0",
    )
    assert found["torch"][0] == "torch_npu 2.9.0 needs torch 2.9.0, found torch 2.8.0"
    assert found["torch"][1] == found["versions"][1]


def test_a_torch_for_another_torch_npu(box):
    """A torch_npu that was made for this CANN stays, and gets its torch."""
    assert problems(box(versions={"torch": "2.8.0"}))["torch"][1] == "pip install torch==2.9.0"


def test_all_cards_are_busy(box):
    """Nothing is free: who occupies the cards, and how to see more."""
    text, fix = problems(box(tables=smi(busy=2)))["memory"]

    assert text.startswith("all 2 cards are occupied (card 0: python 4200 with 61440 MiB; card 1: python 4201")
    assert "ps -o pid,user,etime,args -p 4200,4201" in fix


def test_one_card_is_busy(box):
    """A free card is left: a warning, and how to choose it."""
    made = box(tables=smi(busy=1))

    assert problems(made) == {}
    assert "export ASCEND_RT_VISIBLE_DEVICES=1" in problems(made, "warning")["memory"][1]


def test_a_card_that_is_not_well(box):
    """A card whose health is not OK is a problem."""
    assert "is in the state Alarm" in problems(box(tables=smi(health="Alarm")))["health"][0]


def test_operators_for_another_chip(box):
    """CANN without the binary operators of this chip is a problem that names their package."""
    text, fix = problems(box(kernels=("ascend310p",)))["CANN operators"]

    assert "no binary operators for ascend910b" in text
    assert "Ascend-cann-kernels-910b_<version>.run" in fix


def test_torch_is_not_installed(box):
    """Without torch the fix is the pair that belongs to the CANN that was found."""
    found = problems(box(versions={"torch": None, "torch_npu": None}))

    assert found["torch"][1] == "pip install torch==2.9.0 torch_npu==2.9.0"


def test_npu_smi_is_missing(box):
    """Without npu-smi the rest is examined all the same."""
    made = box(npu_smi_is_there=False)

    assert problems(made) == {}
    assert problems(made, "warning")["npu-smi"][0].startswith("npu-smi is not on PATH")


def test_old_libraries(box):
    """A release without support of Ascend NPUs is a problem, one that is only older than what was tested a warning."""
    made = box(versions={"transformers": "4.31.0", "trl": "0.5.0", "peft": None})

    assert "4.31.0 has no support of Ascend NPUs" in problems(made)["transformers"][0]
    assert problems(made)["peft"][0] == "not installed"
    assert "older than the oldest that this suite is tested with" in problems(made, "warning")["trl"][0]


def test_what_the_suite_needs(box):
    """A missing package of the suite itself is a problem."""
    text, fix = problems(box(versions={"psutil": None, "pytest": "8.0"}))["suite"]

    assert "psutil is not installed" in text
    assert "pytest 8.0 (wanted: " in text
    assert fix == "pip install -r requirements.txt"


def test_a_python_without_wheels(box):
    """A Python that torch_npu has no wheels for is a problem."""
    assert problems(box(python="3.14"))["torch"] == ("torch_npu 2.9.0 has no wheels for Python 3.14", "use Python 3.13")


TRAPS = {
    "INF_NAN_MODE_ENABLE=true": "problem",
    "INF_NAN_MODE_ENABLE=0": "problem",
    "INF_NAN_MODE_ENABLE=1": None,
    "INF_NAN_MODE_FORCE_DISABLE=1": "problem",
    "HCCL_DETERMINISTIC=1": "warning",
    "HCCL_DETERMINISTIC=True": None,
    "TORCH_TRANSFER_TO_NPU=1": "problem",
    "TORCH_DEVICE_BACKEND_AUTOLOAD=0": "warning",
    "TASK_QUEUE_ENABLE=3": "problem",
    "TASK_QUEUE_ENABLE=2": None,
    "HCCL_BUFFSIZE=0": "problem",
    "HCCL_BUFFSIZE=200": None,
    "PYTORCH_NPU_ALLOC_CONF=expandable_segments:True,max_split_size_mb:64": "problem",
    "PYTORCH_NPU_ALLOC_CONF=expandable_segments:True": None,
    "WORLD_SIZE=8": "warning",
}


@pytest.mark.parametrize("setting", TRAPS)
def test_traps(box, setting):
    """A variable that does something else than it seems is found, with its value and the fix; a good one is not."""
    name, _, value = setting.partition("=")
    made = box(**{name: value})
    found = [finding for finding in examine(made) if finding.subject == "environment" and finding.level != "ok"]

    assert [finding.level for finding in found] == ([TRAPS[setting]] if TRAPS[setting] else [])
    assert all(finding.text.startswith(f"{setting} ") and finding.fix for finding in found)


@pytest.mark.parametrize(
    ("visible", "level", "fix"),
    [
        ("1,0", "problem", "unset ASCEND_RT_VISIBLE_DEVICES"),
        ("", "problem", "unset ASCEND_RT_VISIBLE_DEVICES"),
        ("0,7", "warning", "export ASCEND_RT_VISIBLE_DEVICES=0"),
    ],
)
def test_visible_cards(box, visible, level, fix):
    """A list of cards that torch_npu cuts, or takes for none, is found."""
    assert problems(box(ASCEND_RT_VISIBLE_DEVICES=visible), level)["cards"][1] == fix


def test_cards_of_the_host_that_the_container_has_not(box):
    """npu-smi shows cards, /dev has none: the fix is an option of docker."""
    found = problems(box(cards=0, tables=smi(2)))

    assert found["cards"][1].startswith("the host has cards that this container was not given: docker run --device")


def test_atlas_a3():
    """Two chips of one NPU are two cards, by their physical ids."""
    rows = "".join(CARD.format(number=0, name="Ascend910", health="OK", chip=f"{c}     {c}", used=3412) for c in (0, 1))
    answer = npu_smi.parse(HEAD.format(column="Phy-ID") + rows + PROCESSES + IDLE.format(number=0))

    assert [(card.number, card.used, card.total) for card in answer.cards] == [(0, 3412, 65536), (1, 3412, 65536)]


@pytest.mark.parametrize(
    "text", ["", "dcmi model initialized failed, because the device is used.", HEAD + "| 0 | x |\n"]
)
def test_npu_smi_that_says_something_else(text):
    """What cannot be read is a problem in words, not an idle box."""
    answer = npu_smi.parse(text)

    assert (answer.cards, bool(answer.problem)) == ((), True)


@pytest.mark.parametrize(
    ("torch_npu", "cann", "level"),
    [
        ("2.9.0.post6", "9.1.0", "ok"),
        ("2.9.0.post2", "9.1.0", "warning"),
        ("2.9.0.post2", "8.5.0", "problem"),
        ("2.12.0.post3", "9.1.0", "ok"),
        ("2.13.0", "9.1.0", "warning"),
        ("2.13.0", "8.5.0", "problem"),
        ("2.8.0", "8.3.RC1.alpha003", "ok"),
        ("2.8.0", "8.3.RC1", "ok"),
        ("2.2.0", "9.1.0", "warning"),
        ("2.9.0", "not known", "warning"),
    ],
)
def test_compatibility(torch_npu, cann, level):
    """The table of releases decides; what it does not list is a warning, unless it is plainly too old."""
    assert compatibility.judge(compatibility.load(), torch_npu, cann).level == level


def test_the_option(suite):
    """pytest --doctor examines this machine, runs nothing, and says by its exit code whether anything is wrong."""
    ran = suite("raise SystemExit('a test was imported')", "--doctor")

    assert ran.returncode == 1
    assert "PROBLEM  cards" in ran.stdout
    assert not (ran.directory / "run").exists()


def test_the_option_on_emulated_cards(suite):
    """On emulated cards nothing is wrong, and they are called emulated."""
    ran = suite("", "--doctor", env={"NPU_EMULATOR_CARDS": "4"})

    assert ran.returncode == 0, ran.stdout
    assert "4 EMULATED cards" in ran.stdout


def test_without_pytest_and_torch(tmp_path):
    """The module needs packaging alone, and imports nothing of the stack."""
    import packaging

    (tmp_path / "packaging").symlink_to(Path(packaging.__file__).parent)
    program = (
        "import sys; from fixtures.doctor.__main__ import main; main([]); "
        "print(sorted({'torch', 'torch_npu', 'pytest', 'psutil'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "neither torch nor torch_npu is installed" in done.stdout

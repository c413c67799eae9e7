"""What cannot be meant is refused: one clear message, no traceback, a non-zero exit code, nothing half-written."""

import importlib.metadata

import pytest

from conftest import ROOT
from fixtures import discovery

PASSING = """
@pytest.mark.host
@requirement("demo/passes")
def test_passes(evidence):
    '''Two and two are four.'''
    evidence.check_equal("sum", 4, 4)
"""


def refused(ran, message: str) -> None:
    """The run was refused with that message and left nothing."""
    errors = [line for line in ran.stderr.splitlines() if line.startswith("ERROR: ")]
    assert errors == [f"ERROR: {message}"], ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert not (ran.directory / "run").exists()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_unknown_markers(suite, workers):
    """An unknown marker in -m is refused, where pytest alone would deselect everything."""
    ran = suite(PASSING, "-n", workers, "-m", "single_npuu")

    assert "-m 'single_npuu': unknown marker single_npuu. Known: attention, bf16, " in ran.stderr
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert not (ran.directory / "run").exists()


def test_malformed_marker_expressions(suite):
    """A malformed -m is refused."""
    ran = suite(PASSING, "-m", "fp16 and")

    refused(ran, "-m 'fp16 and' is not an expression; write, for example, -m 'fp16 and not checkpoint'")


def test_unregistered_marks_on_tests(suite):
    """A mark that is not registered is a collection error."""
    ran = suite(PASSING.replace("mark.host", "mark.hots"), "-n", "0")

    assert "'hots' not found in `markers` configuration option" in ran.stdout
    assert ran.returncode == pytest.ExitCode.INTERRUPTED


def test_unknown_options(suite):
    """An unknown option is refused by pytest."""
    ran = suite(PASSING, "--require-gpu")

    assert "unrecognized arguments: --require-gpu" in ran.stderr
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR


def test_required_npu(suite):
    """--require-npu without a card is refused with the way out."""
    ran = suite(PASSING, "--require-npu")

    assert "ERROR: --require-npu: no NPU found (no /dev/davinci<number>)." in ran.stderr
    assert "python -m emulator pytest" in ran.stderr
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(("visible", "reason"), [("1,0", "does not ascend"), ("", "hides all 2 cards")])
def test_hidden_cards(suite, visible, reason):
    """--require-npu says so if ASCEND_RT_VISIBLE_DEVICES hides the cards."""
    ran = suite(PASSING, "--require-npu", env={"NPU_EMULATOR_CARDS": "2", "ASCEND_RT_VISIBLE_DEVICES": visible})

    assert f"ERROR: --require-npu: ASCEND_RT_VISIBLE_DEVICES='{visible}' {reason}" in ran.stderr


def test_existing_journals(suite):
    """A directory that has a journal already is refused, and the journal stays as it is."""
    before = suite(PASSING, "-n", "0").records

    ran = suite(PASSING, "-n", "0")

    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert "run/journal.jsonl exists: a journal is never overwritten. Choose another --run-dir" in ran.stderr
    assert ran.records == before


def test_unwritable_run_directories(suite, tmp_path):
    """A run directory that cannot be made is refused."""
    (tmp_path / "file").write_text("")

    ran = suite(PASSING, "-n", "0", "--run-dir", str(tmp_path / "file/run"))

    assert "cannot be written: Not a directory. Choose another --run-dir" in ran.stderr
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR


def test_transformers_examples(suite, tmp_path):
    """A directory that is no checkout of transformers is refused."""
    ran = suite(PASSING, f"--transformers-examples={tmp_path}")

    refused(
        ran,
        f"--transformers-examples {tmp_path}: no examples/pytorch/text-classification/run_glue.py there. "
        "Give the root of a checkout of transformers",
    )


def test_transfer_to_npu(suite):
    """transfer_to_npu is refused: the libraries would take their CUDA code paths."""
    ran = suite(PASSING, env={"TORCH_TRANSFER_TO_NPU": "1"})

    assert "ERROR: TORCH_TRANSFER_TO_NPU=1 makes torch_npu pretend to be CUDA" in ran.stderr
    assert "Type: unset TORCH_TRANSFER_TO_NPU" in ran.stderr
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR


def test_silenced_warnings(suite):
    """Silenced warnings of torch_npu are refused: operators that fall back to the CPU would go unnoticed."""
    ran = suite(PASSING, env={"TORCH_NPU_WARNING_DISABLE": "1"})

    assert "ERROR: TORCH_NPU_WARNING_DISABLE silences the warnings" in ran.stderr
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR


def test_more_workers_than_cards(suite, a_loadable_cann):
    """More workers than cards are refused, since each worker has a card of its own."""
    ran = suite(PASSING, "-n", "3", env={"NPU_EMULATOR_CARDS": "2", **a_loadable_cann})

    refused(ran, "-n 3: each worker has a card of its own, and 2 are visible. Use -n auto")


@pytest.fixture
def distributions(tmp_path, monkeypatch):
    """distributions(torch="2.13.0", ...): what seems to be installed, instead of what is."""

    def pretend(**versions):
        hook = tmp_path / "site/sitecustomize.py"
        hook.parent.mkdir()
        hook.write_text(
            "import importlib.metadata as metadata\n"
            f"versions, real = {versions!r}, metadata.version\n"
            "def version(name):\n"
            "    if name not in ('torch', 'torch_npu'):\n"
            "        return real(name)\n"
            "    if versions.get(name) is None:\n"
            "        raise metadata.PackageNotFoundError(name)\n"
            "    return versions[name]\n"
            "metadata.version = version\n"
            "requires = metadata.requires\n"
            "metadata.requires = lambda name: [] if name == 'torch_npu' else requires(name)\n"
        )
        return str(hook.parent)

    return pretend


@pytest.mark.parametrize(
    ("torch", "torch_npu", "message"),
    [
        ("2.13.0+cpu", None, "torch 2.13.0+cpu is installed, torch_npu is not: nothing would run on an NPU. "
         "Type: pip install torch_npu==2.13.0"),
        (None, "2.13.0.post2", "torch_npu 2.13.0.post2 is installed, torch is not. Type: pip install torch==2.13.0"),
        ("2.12.1", "2.13.0", "torch_npu 2.13.0 needs torch 2.13.0, found torch 2.12.1. "
         "Type: pip install torch==2.13.0"),
        ("2.13.1", "2.13.0", "torch_npu 2.13.0 needs torch 2.13.0, found torch 2.13.1. "
         "Type: pip install torch==2.13.0"),
    ],
)  # fmt: skip
def test_incomplete_stacks(suite, distributions, torch, torch_npu, message):
    """torch without torch_npu, torch_npu without torch, and a pair that does not belong together are refused."""
    path = distributions(torch=torch, torch_npu=torch_npu)

    ran = suite(PASSING, env={"PYTHONPATH": f"{path}:{ROOT}"})

    refused(ran, message)


@pytest.mark.parametrize("pair", [("2.13.0+cpu", "2.13.0.post3"), ("2.12.0", "2.12.0rc1")])
def test_pairs_that_belong_together(suite, distributions, pair):
    """Local and post-release parts of the versions do not matter."""
    path = distributions(torch=pair[0], torch_npu=pair[1])

    assert suite(PASSING, "-n", "0", env={"PYTHONPATH": f"{path}:{ROOT}"}).returncode == 0


@pytest.mark.parametrize(("torch_npu", "refused"), [("2.13.0", True), ("2.9.0", False)])
def test_a_torch_for_cuda(torch_npu, refused):
    """A torch whose metadata asks for NVIDIA's libraries on this machine is refused beside a torch_npu from 2.12 on."""
    asked = ["filelock", "nvidia-nccl-cu13==2.29.7; platform_system == 'Linux'"]
    elsewhere = ["nvidia-nccl-cu13==2.29.7; platform_system == 'Windows'"]

    problem = discovery.pair_problem(torch_npu, torch_npu, [f"torch=={torch_npu}+cpu"], asked)

    assert bool(problem) is refused
    assert not refused or "pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu" in problem
    assert discovery.pair_problem(torch_npu, torch_npu, [], elsewhere) is None


def test_cann_not_sourced(suite):
    """A card and a complete pair, but no CANN that the loader finds, is refused with what to type."""
    ran = suite(PASSING, env={"NPU_EMULATOR_CARDS": "1", "LD_LIBRARY_PATH": ""})

    refused(
        ran,
        "CANN is not sourced: libascendcl.so: cannot open shared object file: No such file or directory. "
        "Type: source /usr/local/Ascend/ascend-toolkit/set_env.sh",
    )


def test_listing_needs_no_stack(suite):
    """Listing tests works without CANN, without a card, and leaves nothing behind."""
    ran = suite(PASSING, "--collect-only", "-q", env={"NPU_EMULATOR_CARDS": "1", "LD_LIBRARY_PATH": ""})

    assert "tests/test_written.py::test_passes" in ran.stdout
    assert ran.returncode == 0
    assert not (ran.directory / "run").exists()


def test_without_a_card_tests_say_why_they_do_not_run(suite):
    """Without a card, a test that needs one is skipped with the reason and the way out, and the run is INCOMPLETE."""
    ran = suite(
        """
        @requirement("demo/card")
        def test_card(npu):
            '''A card adds.'''
            assert npu
        """
    )

    assert ran.outcomes == {"test_card": "NOT_RUN"}
    assert "no NPU found" in ran.tests["test_card"]["reason"]
    assert "python -m emulator pytest" in ran.tests["test_card"]["reason"]
    assert ran.returncode == 0
    assert ran.verdict == "verdict: INCOMPLETE on no card: 1 not run"


def test_installed_pair():
    """The pair that is installed here belongs together, so that the tests above do not pass by accident."""
    assert importlib.metadata.version("torch").split("+")[0] == importlib.metadata.version("torch_npu")

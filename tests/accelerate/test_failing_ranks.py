"""One of several ranks fails in the midst of training: everybody ends with an error, in time, and the cards go on."""

import pytest

from fixtures.errors import DeadlineExceeded, RankCrashed, RankFailed
from fixtures.requirement import requirement
from fixtures.workloads.data_parallel import DataParallel
from fixtures.workloads.failing_rank import MESSAGE, FailingRank

pytestmark = pytest.mark.multi_npu

DEADLINE = 240  # seconds, for a start, three steps and an end
# Where nothing but a time limit of HCCL ends a collective that will never be complete, it is to be a short one.
LIMITS = {"HCCL_EXEC_TIMEOUT": "60", "HCCL_CONNECT_TIMEOUT": "120"}


@pytest.fixture
def failure(ranks):
    """failure(spec, **how) -> what was said about the ranks; then the next job runs on the same cards."""

    def measure(spec: FailingRank, kind: type[AssertionError], **how) -> str:
        with pytest.raises(AssertionError) as raised:
            ranks(spec, 2, fresh=True, deadline=DEADLINE, env=LIMITS, **how)
        if isinstance(raised.value, DeadlineExceeded) or not isinstance(raised.value, kind):
            raise raised.value
        return str(raised.value)

    return measure


@requirement("accelerate/failing-rank-ends-the-run", level="core")
@pytest.mark.parametrize(
    ("how", "launcher", "kind", "said"),
    [
        pytest.param("raises", "torchrun", RankFailed, f"rank 1 raised first: ValueError: {MESSAGE}", id="raises"),
        pytest.param("is killed", "accelerate", RankCrashed, "rank 1 died first: killed by SIGKILL", id="killed"),
    ],
)
def test_a_failing_rank_ends_the_run(failure, evidence, how, launcher, kind, said):
    """When one rank raises or is killed between two steps, all end with an error, and long before a time limit."""
    message = failure(FailingRank(how), kind, launcher=launcher)

    evidence.add(message=message)
    evidence.check_equal("first failure", message.splitlines()[0], said)
    evidence.check_equal("ranks that finished", message.count("  finished"), 0)


@requirement("accelerate/leaving-rank-ends-the-run", level="core")
@pytest.mark.parametrize("how", ["leaves", "has no more data"])
def test_a_rank_that_is_gone_is_an_error_for_the_others(failure, evidence, how):
    """When one rank ends without an error and too early, those that wait for it get an error, and no hang."""
    message = failure(FailingRank(how), AssertionError)

    evidence.add(message=message)
    assert "rank 0  card" in message
    outcome = next(line for line in message.splitlines() if line.startswith("  rank 0"))
    assert "raised" in outcome or "died" in outcome, message


@requirement("accelerate/mismatched-rank-raises", level="core")
@pytest.mark.parametrize("how", ["has another dtype", "has another shape"])
def test_ranks_that_disagree_raise(failure, evidence, how):
    """When one rank gives an all-reduce another dtype or size than the others, that is an error, and no hang."""
    message = failure(FailingRank(how), AssertionError)

    evidence.add(message=message)
    evidence.check_equal("ranks that finished", message.count("  finished"), 0)
    assert "raised first" in message or "died first" in message, message


@requirement("accelerate/next-job-after-a-failure", level="core")
def test_the_next_job_runs(failure, ranks, reference, evidence):
    """After a rank was killed in the midst of a collective the next job on the same cards trains as if nothing were."""
    failure(FailingRank("is killed", rank=0), RankCrashed)
    spec = DataParallel()

    measured = ranks(spec, 2, fresh=True)

    truth, peer = reference(spec, "float64"), reference(spec, "float32")
    evidence.check_curve("training loss", measured[0].losses, truth.losses)
    for result in measured:
        evidence.check_gradients(result.gradients, truth.gradients, peer.gradients)

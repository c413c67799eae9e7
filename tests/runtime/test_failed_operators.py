"""An operator that fails on the card: its error reaches the program, and what comes after is not silently wrong.

With TASK_QUEUE_ENABLE=2 operators are checked and launched by another thread than the program's, so that an error has
to find its way back. The operator here is one that CANN does not have: a sum of unsigned 16-bit numbers.
"""

import pytest

from fixtures.requirement import requirement, unsupported

pytestmark = [pytest.mark.single_npu, pytest.mark.runtime]

# `raised(actions)` tells what one of them raised.
PREPARED = """
import time
import torch, torch_npu

numbers = torch.arange(4, device="npu") + 1.0
refused = torch.ones(4, dtype=torch.int16, device="npu").view(torch.uint16)
result = torch.zeros(4, dtype=torch.int16, device="npu").view(torch.uint16)
events = [torch.npu.Event() for _ in range(60)]
for event in events:
    event.record()
torch.npu.synchronize()

def doomed():
    torch.add(refused, refused, out=result)

def raised(*actions):
    try:
        for action in actions:
            action()
    except RuntimeError as error:
        return str(error)
    return ""

def computed():
    return result.view(torch.int16).cpu().tolist()

"""


@pytest.fixture
def failed(npu, probe, evidence):
    """failed(snippet) -> facts: runs the snippet after PREPARED, in a process of its own with two task queues.

    A card that has the operator has nothing to report.
    """

    def run(snippet: str) -> dict:
        probed = probe(PREPARED + snippet, TASK_QUEUE_ENABLE="2")
        assert probed.returncode == 0, probed.output
        if not probed.facts["error"] and probed.facts["result"] == [2, 2, 2, 2]:
            unsupported("this card adds unsigned 16-bit numbers, so that nothing fails")
        evidence.add(**probed.facts)
        return probed.facts

    return run


@requirement("runtime/failed-operator-is-raised", level="core")
def test_a_failed_operator_is_raised(failed):
    """An operator that the card refuses is a RuntimeError at the next synchronisation at the latest."""
    facts = failed("""
error = raised(doomed, torch.npu.synchronize)
report(error=error, result=None if error else computed())
""")

    assert facts["error"], f"no error, and the result is {facts['result']}"


@requirement("runtime/failed-operator-and-events", level="core")
def test_events_that_end_take_no_error_with_them(failed):
    """The error of an operator that the card refuses still comes after the events of earlier work have ended."""
    # The operator fails in between: its thread takes milliseconds for it, a busy machine some hundred of them.
    facts = failed("""
def end_events():
    while events:
        events.pop()
        time.sleep(0.05)

error = raised(doomed, end_events, torch.npu.synchronize)
report(error=error, result=None if error else computed())
""")

    assert facts["error"], f"no error, and the result is {facts['result']}"


@requirement("runtime/computing-after-a-failed-operator", level="core")
def test_computing_after_a_failed_operator(failed):
    """After a caught error the card computes right numbers, or goes on raising errors, but never gives wrong ones."""
    # More than one synchronisation: the first may come between the failure and its being noted.
    facts = failed("""
error = raised(doomed, *[torch.npu.synchronize, lambda: time.sleep(0.02)] * 50)
report(error=error, result=None if error else computed())
later = []
again = raised(lambda: later.extend((numbers * 7 + 3).cpu().tolist()))
report(later=later, again=again)
""")

    right = [10.0, 17.0, 24.0, 31.0]
    assert facts["again"] or facts["later"] == right, f"no error, and [1, 2, 3, 4] * 7 + 3 is {facts['later']}"

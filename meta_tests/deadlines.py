"""A deadline of a command that strikes when something is so, and not after seconds.

A test of what happens at a deadline needs a command that has come to the point where it hangs. How long that takes is a
matter of the machine: seconds that are enough on an idle one are not on a busy one.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from fixtures import command


def strike_when(hangs: Callable[[], bool]) -> None:
    """From now on the deadline of each command (fixtures/command.py) is over as soon as ``hangs()``, however long it
    was to be. A command that ends by itself before has ended by itself.
    """
    command._ended_by = lambda child, deadline: _struck(child, hangs)


def _struck(child: subprocess.Popen, hangs: Callable[[], bool]) -> tuple[str, str]:
    while child.poll() is None and not hangs():  # what it says until then has room in its pipes
        time.sleep(0.02)
    return child.communicate(timeout=None if child.returncode is not None else 0.0)

"""Loaded by every Python that a test starts while a library is to lie: has it lie there, too.

The suite's own observer (fixtures/observer) comes first on the path of such processes, and runs this file.
"""

import importlib.util
import sys
from pathlib import Path

_spec = importlib.util.spec_from_file_location("_npu_conformance_lies", Path(__file__).parents[1] / "lies.py")
_lies = importlib.util.module_from_spec(_spec)
sys.modules["_npu_conformance_lies"] = _lies
_spec.loader.exec_module(_lies)
_lies.install()

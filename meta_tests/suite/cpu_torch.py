"""torch without torch_npu, which it would load by itself and which cannot be loaded without CANN."""

import pytest

with pytest.MonkeyPatch.context() as patch:
    patch.setenv("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
    import torch

__all__ = ["torch"]

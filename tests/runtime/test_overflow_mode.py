"""Inf/nan mode and saturation mode, as torch_npu decides them by chip and environment, observed by real overflow."""

import pytest

from fixtures.chips import chip
from fixtures.requirement import requirement

pytestmark = [pytest.mark.single_npu, pytest.mark.fp16, pytest.mark.runtime]

OVERFLOW = """
import torch, torch_npu
report(inf_nan=torch_npu.npu.utils.is_support_inf_nan())
exp = torch.full((3,), 12.0, dtype=torch.float16, device="npu").exp()
root = torch.full((3,), -1.0, dtype=torch.float16, device="npu").sqrt()
total = torch.full((3,), 60000.0, dtype=torch.float16, device="npu") * 2
report(exp=[repr(v) for v in exp.cpu().tolist()], root=[repr(v) for v in root.cpu().tolist()],
       total=[repr(v) for v in total.cpu().tolist()])
"""

IEEE = {"inf_nan": True, "exp": ["inf"] * 3, "root": ["nan"] * 3, "total": ["inf"] * 3}
SATURATED = {"inf_nan": False, "exp": ["65504.0"] * 3, "root": ["0.0"] * 3, "total": ["65504.0"] * 3}


REFUSED = "refused, naming INF_NAN_MODE_FORCE_DISABLE=1"


def expected(name: str, enable: str | None, force_disable: str | None) -> dict | str:
    """What the chip does in that environment, or REFUSED where torch_npu is to refuse it.

    INF_NAN_MODE_ENABLE is parsed as a number, so that "true" counts as 0.
    """
    soc = chip(name)
    if soc.series == "Ascend950":
        return IEEE
    if enable is not None and enable != "1":
        return REFUSED if soc.inf_nan_by_default and force_disable != "1" else SATURATED
    if force_disable == "1":
        return SATURATED
    return IEEE if soc.inf_nan_by_default else SATURATED


@requirement("runtime/overflow-mode", level="core")
@pytest.mark.parametrize(
    ("enable", "force_disable"),
    [
        pytest.param(None, None, id="unset"),
        pytest.param("1", None, id="enabled"),
        # Refused on most chips, before anything reaches the card.
        pytest.param("0", None, id="disabled", marks=pytest.mark.host),
        pytest.param("true", None, id="true-means-0", marks=pytest.mark.host),
        pytest.param(None, "1", id="force-disabled"),
        pytest.param("0", "1", id="disabled-by-force"),
    ],
)
def test_overflow_mode_follows_chip_and_environment(npu, probe, evidence, enable, force_disable):
    """Overflow gives inf and NaN, or saturates, or is refused, exactly as the chip and INF_NAN_MODE_* call for."""
    import torch

    name = torch.npu.get_device_name(npu)

    probed = probe(OVERFLOW, INF_NAN_MODE_ENABLE=enable, INF_NAN_MODE_FORCE_DISABLE=force_disable)

    evidence.add(chip=name, output=probed.output[-1000:])
    refused = probed.returncode != 0 and "INF_NAN_MODE_FORCE_DISABLE=1" in probed.output
    wanted = expected(name, enable, force_disable)
    evidence.check_equal("overflow", REFUSED if refused else probed.facts, wanted)

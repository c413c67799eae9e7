"""Operators of torch_npu's own, which PyTorch's operator samples do not reach."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("program", ["attention_comparison", "fused_comparison", "quantised_comparison"])
@pytest.mark.parametrize("chip", ["Ascend910B3", "Ascend950PR_9599"])
def test_they_compute_what_they_stand_for(emulated, program, chip):
    """Outputs and gradients equal the written-out float64 computation, on chips that call different versions."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))

    run = emulated(
        f"from meta_tests.emulator.{program} import main\nmain()", soc=chip, environment={"PYTHONPATH": path}
    )

    assert run.succeeded().stdout.splitlines()[-1].startswith("0 of "), run.stdout


def test_graph_operators_that_older_releases_choose(emulated):
    """Where torch_npu chooses graph operators, decompositions, shifts and statistics of batches are those of torch."""
    run = emulated(
        """
        import torch, torch_npu

        def chosen(function, *tensors, **options):
            torch.npu.set_compile_mode(jit_compile=True)
            found = function(*(tensor.npu() for tensor in tensors), **options)
            torch.npu.set_compile_mode(jit_compile=False)
            return [part.cpu() for part in ([found] if torch.is_tensor(found) else found)]

        matrices = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0))
        for full, wide in ((True, False), (False, False), (True, True), (False, True)):
            given = matrices.mT.contiguous() if wide else matrices
            found = chosen(torch.linalg.svd, given, full_matrices=full)
            shapes = [part.shape for part in torch.linalg.svd(given, full_matrices=full)]
            assert [part.shape for part in found] == shapes
            u, s, vh = found[0][..., :5], found[1], found[2][:, :5]
            torch.testing.assert_close((u * s.unsqueeze(-2)) @ vh, given, atol=1e-5, rtol=0)
        numbers, places = torch.tensor([1, -16, 2**40]), torch.tensor([2, 0, 3])
        assert torch.equal(chosen(lambda given: given << 3, numbers)[0], numbers << 3)
        assert torch.equal(chosen(lambda given: given >> 2, numbers)[0], numbers >> 2)
        assert torch.equal(chosen(lambda given, by: given << by, numbers, places)[0], numbers << places)
        assert torch.equal(chosen(lambda given, by: given >> by, numbers, places)[0], numbers >> places)
        # Two ranks of 3 rows each, as SyncBatchNorm puts them together, beside one process with all 6.
        batch = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
        parts = batch.view(2, 3, 5, 1, 1)
        sums = [chosen(lambda own: torch_npu.batch_norm_reduce(own, 1e-3), part) for part in parts]
        sum_all, square_sum_all = (torch.stack(each) for each in zip(*sums))
        running = [torch.full((5,), 2.0), torch.full((5,), 3.0)]
        on_card = [tensor.npu() for tensor in running]
        gather = torch_npu.batch_norm_gather_stats_update
        mean, invstd = chosen(
            lambda own, *all: gather(own, *all, *on_card, 0.25, 1e-3, torch.tensor([3.0, 3.0]).npu()),
            batch[:3], sum_all, square_sum_all,
        )
        expected = torch.native_batch_norm(batch, None, None, *running, True, 0.25, 1e-3)
        torch.testing.assert_close([mean, invstd, *(tensor.cpu() for tensor in on_card)], [*expected[1:], *running])
        """,
        environment={"NPU_EMULATOR_TRACE": "1"},
    )

    called = set(run.succeeded().stderr.split())
    older = {"Svd", "LeftShift", "RightShift", "BNTrainingReduce", "SyncBatchNormGatherStats"}
    assert older <= called, run.stderr[-2000:]

"""Collectives of several ranks through torch_npu's ProcessGroupHCCL."""

import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("ranks_of_collectives.py")


@pytest.fixture
def torchrun(emulated):
    """A function that runs a script with arguments under torchrun, on a free port; settings as with `emulated`."""

    def run(ranks: int, script: Path, *arguments, **settings):
        command = ["--standalone", f"--nproc-per-node={ranks}", *map(str, (script, *arguments))]
        return emulated(
            f"from torch.distributed.run import main\nmain({command})\n",
            **{"cards": ranks, "deadline": 240, **settings},
        )

    return run


@pytest.mark.parametrize(
    ("ranks", "settings"),
    [
        pytest.param(2, {}, id="2-ranks"),
        pytest.param(2, {"asynchronous": 1}, id="2-ranks-asynchronous"),
        # The chips for which torch_npu calls HcclAllGatherV and HcclReduceScatterV.
        pytest.param(4, {"soc": "Ascend910_9391"}, id="4-ranks-of-A3"),
    ],
)
def test_collectives_give_what_the_cpu_computes(torchrun, tmp_path, ranks, settings):
    """Every collective of torch.distributed gives, on every rank, what the CPU computes from all ranks' inputs."""
    run = torchrun(ranks, SCRIPT, "--report", tmp_path, **settings).succeeded()

    reports = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(ranks)]
    failures = {f"rank {rank}: {name}": text for rank, report in enumerate(reports) for name, text in report.items()}
    assert failures
    assert {name: text for name, text in failures.items() if text} == {}
    called = {"HcclAllReduce", "HcclBroadcast", "HcclAllGather", "HcclReduceScatter", "HcclScatter", "HcclAlltoAll"}
    called |= {"HcclReduce", "HcclAlltoAllV", "HcclSend", "HcclRecv", "HcclBatchSendRecv"}
    if ranks == 4:
        called |= {"HcclAllGatherV", "HcclReduceScatterV"}
    assert called <= set(run.calls)


RANK_THAT_FAILS = """
import os, signal, sys, time
# Without the queue, in which another thread may take the error for itself (docs/defects, SWALLOWED).
os.environ["TASK_QUEUE_ENABLE"] = "0"
import torch
import torch.distributed as dist

case, rank, store = sys.argv[1], int(sys.argv[2]), dist.FileStore(sys.argv[3], 2)
torch.npu.set_device(rank)
torch.ones(1).npu()
store.add("up", 1)
while store.add("up", 0) < 2:  # to import torch may take one of them longer than the timeout
    time.sleep(0.01)
dist.init_process_group("hccl", store=store, rank=rank, world_size=2)
dist.all_reduce(torch.ones(4).npu())
torch.npu.synchronize()
if rank == 1 and case != "disagreement":
    os.kill(os.getpid(), signal.SIGKILL if case == "dead" else signal.SIGSTOP)
try:
    dist.all_reduce(torch.ones(5 if rank == 1 else 4).npu())
    torch.npu.synchronize()
except RuntimeError as error:
    print(error, flush=True)
os._exit(0)
"""

PAIRS_THAT_FAIL = """
import json, os, subprocess, sys

def start(case, rank, asynchronous):
    arguments = [sys.executable, "-c", program, case, str(rank), os.path.join(folder, case)]
    environment = {**os.environ, "NPU_EMULATOR_ASYNC": asynchronous}
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)

modes = {"dead": "0", "hung": "1", "disagreement": "0"}
pairs = {case: [start(case, rank, mode) for rank in range(2)] for case, mode in modes.items()}
texts = {}
for case, (first, second) in pairs.items():
    texts[case] = [first.communicate()[0]]
    if case == "hung":
        second.kill()
    texts[case].append(second.communicate()[0])
print(json.dumps(texts))
"""


def test_torch_npu_raises_what_went_wrong(emulated, tmp_path):
    """A dead peer, a hung peer and a disagreement are a RuntimeError of torch_npu that names the ranks."""
    names = f"program = {RANK_THAT_FAILS!r}\nfolder = {str(tmp_path)!r}\n"

    run = emulated(names + PAIRS_THAT_FAIL, hccl_timeout=8, deadline=240).succeeded()

    texts = json.loads(run.stdout.splitlines()[-1])
    assert "HcclAllReduce: communicator" in texts["dead"][0]
    assert "rank 0 of 2: waits in vain for rank 1 (process " in texts["dead"][0]
    assert "whose process has ended" in texts["dead"][0]
    assert "rank 0 of 2: has waited 8 s (NPU_EMULATOR_HCCL_TIMEOUT) for rank 1 (process " in texts["hung"][0]
    for text in texts["disagreement"]:
        assert "rank 0 has called HcclAllReduce(fp32, sum, 4 elements)" in text
        assert "rank 1 has called HcclAllReduce(fp32, sum, 5 elements)" in text

"""Several nodes: one torchrun for each, here with a stand-in for it, on one host and over a stand-in for ssh."""

import os
import subprocess
import sys

import pytest

from conftest import ROOT
from fixtures import nodes

# Instead of torchrun: says what it was told, and fails on the node that FAILS names.
TORCHRUN = """
import os, sys, time
node = next(word for word in sys.argv if word.startswith("--node_rank"))[-1]
told = " ".join([node, os.environ["ASCEND_RT_VISIBLE_DEVICES"], *sys.argv[1:]])
os.write(1, (told + "\\n").encode())  # at once: print() writes word by word where PYTHONUNBUFFERED is set
if os.environ.get("FAILS") == node:
    sys.exit(3)
time.sleep(60 if "FAILS" in os.environ else 0)
"""


@pytest.fixture
def run(tmp_path):
    """run(*hosts, **variables) -> what became of a module on these nodes, on four cards."""
    (tmp_path / "torch/distributed").mkdir(parents=True)
    (tmp_path / "torch/__init__.py").write_text("")
    (tmp_path / "torch/distributed/__init__.py").write_text("")
    (tmp_path / "torch/distributed/run.py").write_text(TORCHRUN)
    (tmp_path / "ssh").write_text('#!/bin/sh\necho "ssh $1" >&2\nexec sh -c "$2"\n')
    (tmp_path / "ssh").chmod(0o755)

    def start(*hosts: str, **variables: str) -> subprocess.CompletedProcess:
        environment = {
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHONPATH": f"{tmp_path}:{ROOT}",
            "ASCEND_RT_VISIBLE_DEVICES": "1,3,4,6",
            "HCCL_BUFFSIZE": "200 MiB",
            **variables,
        }
        command = [
            sys.executable,
            "-m",
            "fixtures.nodes",
            "--port=29500",
            "--nproc=2",
            *hosts,
            "--",
            "module",
            "an argument",
        ]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=50)

    return start


def test_two_launchers_on_one_host(run):
    """Each launcher has its half of the cards, its number, and the same rendezvous."""
    done = run("localhost", "localhost")

    common = (
        "--nnodes=2 --node_rank={} --nproc_per_node=2 --master_addr=127.0.0.1 --master_port=29500 -m module an argument"
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"0 1,3 {common.format(0)}", f"1 4,6 {common.format(1)}"]


def test_another_host(run):
    """The other host is reached by ssh, in the same directory, with the variables that matter, quoted."""
    done = run("localhost", "node2")

    assert done.returncode == 0, done.stderr
    assert "ssh node2" in done.stderr
    assert sorted(line.split()[1] for line in done.stdout.splitlines()) == ["1,3", "1,3"]
    assert all("--master_addr=localhost" in line for line in done.stdout.splitlines())


def test_a_node_that_fails(run):
    """When one node fails the others are ended, and its exit code comes out."""
    done = run("localhost", "localhost", FAILS="1")

    assert done.returncode == 3


def test_the_hosts_of_a_run(monkeypatch):
    """Without --nodes two launchers on this host rehearse them."""
    monkeypatch.delenv(nodes.NODES, raising=False)
    assert nodes.hosts() == ("localhost", "localhost")
    monkeypatch.setenv(nodes.NODES, "node1,node2,node3")
    assert nodes.hosts() == ("node1", "node2", "node3")

"""``launcher=torchrun`` on two hosts (two agents here): one is lost, the other goes on alone, and ends the run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pretrain.ledger import computed, recorded
from pretrain.run import RunDirectory
from tests.integration.runs import TEXT, steps
from tests.processes import children

STEPS = 4000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_host_that_is_left_goes_on_alone(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "pretrain", *TEXT, f"max_steps={STEPS}"]
    command += ["evaluate.every_n_steps=100000"]
    command += ["checkpoint.every_n_steps=100", "ledger=true", "report.enabled=false", "interruption.silence_s=10"]
    command += ["launcher=torchrun", "trainer.num_nodes=2", "launcher.min_nodes=1", "launcher.max_restarts=5"]
    command += [f"launcher.rendezvous=127.0.0.1:{port}", "trainer.accelerator=cpu", f"run_dir={run_dir}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    hosts = []
    try:
        for _ in range(2):
            hosts.append(subprocess.Popen(command, env=environment))
            time.sleep(3)  # the first one is where they meet
        until = time.monotonic() + 240
        while not (run_dir / "metrics.jsonl").exists() or len(steps(run_dir)) < 300:
            assert time.monotonic() < until
            assert hosts[0].poll() is None
            time.sleep(0.1)
        for pid in [*children(hosts[1].pid), hosts[1].pid]:  # a host is lost with all that runs on it
            os.kill(pid, signal.SIGKILL)
        assert hosts[0].wait(timeout=400) == 0
    finally:
        for host in hosts:
            host.kill()
            host.wait()
    assert steps(run_dir) == list(range(1, STEPS + 1))
    starts = [json.loads(line) for line in (run_dir / "starts.jsonl").read_text().splitlines()]
    assert len(starts) >= 2
    assert starts[-1]["step"] >= 100
    directory = RunDirectory(str(run_dir), rank=-1)
    assert list(recorded(directory, 1, STEPS)) == list(computed(directory, 1, STEPS))
    assert len(list((run_dir / "ledger").iterdir())) == 2

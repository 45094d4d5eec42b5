"""Embedding 50,000 samples, killed five times: the same bytes as without, each key once."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.write import write
from tests.conftest import sentence
from tests.pretrain.embedding.small import run

SAMPLES = 50_000
KILLS = 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fifty_thousand_samples_killed_five_times(tmp_path, tokenizer_path):
    samples = ((f"own-{n:06d}", {"txt": sentence(n, 6).encode()}) for n in range(SAMPLES))
    write(samples, tmp_path / "shards", "own", 10 << 20)
    run(tmp_path / "run", tokenizer_path)
    finished(started(tmp_path, "whole"))
    draw, parts = random.Random(0), -(-SAMPLES // 2048)
    for kill in range(1, KILLS + 1):
        process = started(tmp_path, "killed")
        while len(vectors(tmp_path / "killed")) < kill * parts // (KILLS + 1):
            assert process.poll() is None, "it was done before it could be killed"
            time.sleep(0.01)
        time.sleep(0.3 * draw.random())
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "killed/complete.json").exists()
    finished(started(tmp_path, "killed", "--devices", "2"))
    whole, killed = content(tmp_path / "whole"), content(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    assert whole == killed
    rows = [json.loads(line) for name in sorted(whole) if name.endswith(".jsonl") for line in whole[name].splitlines()]
    assert [row["key"] for row in rows] == [f"own-{n:06d}" for n in range(SAMPLES)]
    assert json.loads(whole["complete.json"]) == {"samples": SAMPLES, "left_out": 0, "parts": parts}


def started(folder, out, *more):
    command = [sys.executable, "-m", "pretrain", "embed", str(folder / "run"), str(folder / "shards/own-*.tar")]
    settings = ["--encoder", "text", "--threads", "1", "--part-size", "2048", *more]
    return subprocess.Popen([*command, "--out", str(folder / out), *settings])


def finished(process):
    assert process.wait() == 0


def vectors(folder):
    return list(folder.glob("*.npy"))


def content(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if not path.name.startswith(".")}

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_measures_every_case_without_peers(tmp_path):
    out = tmp_path / "rows.jsonl"
    command = [sys.executable, str(ROOT / "scripts/bench_data.py"), "--quick", "--peers", "none", "--kinds", "text"]
    command += ["--workers", "0,1", "--seconds", "0.05", "--data", str(tmp_path / "data"), "--out", str(out)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (run.returncode, run.stderr.strip()) == (0, "")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert not [row for row in rows if "error" in row]
    rates = {(row["form"], row["workers"]) for row in rows if row["loader"] == "ours" and "samples_per_s" in row}
    assert rates >= {(form, workers) for form in ("block", "lists", "decoded", "own") for workers in (0, 1)}
    assert all(row["samples_per_s"] > 0 for row in rows if "samples_per_s" in row)
    assert all(row["exact"] for row in rows if row["what"] == "resume")
    windows = [row for row in rows if row.get("window")]
    assert [row["window"] for row in windows] == [1, 16, 32]
    assert all(row["worker_private_mb"] > 0 for row in windows)
    # A perfect shuffle of S shards draws a batch of B from S (1 - (1 - 1/S)^B) of them.
    mixed = next(row["shards_per_batch"] for row in rows if row["what"] == "mixing")
    assert mixed > 0.9 * 32 * (1 - (1 - 1 / 32) ** 16)
    assert "worker memory, widest / narrowest shuffle" in run.stdout
    assert "CPU a sample, same decoder / bare decoding" in run.stdout
    assert "decoded, same decoder / fastest peer" not in run.stdout

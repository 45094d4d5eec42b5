"""Runs whose weights are of another precision."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.integration.runs import SMALL, run


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_every_modality_trains_and_is_measured_and_rows_are_not_rounded(tmp_path: Path, precision: str) -> None:
    more = [f"trainer.precision={precision}", "max_steps=3", "optimizer.lr=0.001", "schedule=constant"]
    more += ["schedule.warmup_steps=3", "tasks.mlm.weight={from: 0.1, to: 1, steps: 3}"]
    assert run([*SMALL, *more, f"run_dir={tmp_path / 'run'}"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    warned = "updates below 1/256 of a weight are rounded away" in (tmp_path / "run/log.txt").read_text()
    assert warned == (precision == "bf16-true")
    rates = torch.tensor([0.001 * step / 3 for step in (1, 2, 3)]).tolist()
    assert [row["lr"] for row in rows if "lr" in row] == pytest.approx(rates, rel=1e-6)
    assert [row["mlm/weight"] for row in rows if "lr" in row] == pytest.approx([0.1, 0.4, 0.7], rel=1e-6)

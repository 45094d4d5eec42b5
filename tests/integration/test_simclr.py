"""A new objective is one Python file and one YAML of the user's own; nothing of the framework is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.examples import write_examples
from tests.integration.runs import run, steps

DOCS = Path(__file__).parents[2] / "docs/objectives.md"


@pytest.mark.parametrize("micro", ["null", "4"])
def test_simclr_is_one_file_and_one_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, micro: str) -> None:
    write_examples(DOCS, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    own = ["--config-dir", str(tmp_path / "my_configs"), "experiment=simclr", "trusted_roots=[mysimclr]"]
    quick = ["trainer.threads=1", "loader.workers=0", "logger=none", "evaluate.samples=16", "optimizer.lr=3e-3"]
    quick += ["max_steps=12", "tasks.views.batch_size=16"]
    quick += ["schedule.warmup_steps=2", f"micro_batch_size={micro}"]
    assert run([*own, *quick, f"run_dir={tmp_path / 'run'}"]) == 0
    assert steps(tmp_path / "run") == list(range(1, 13))
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [row["views/loss"] for row in rows]
    assert sum(losses[-3:]) < sum(losses[:3])
    results = json.loads((tmp_path / "run/results.json").read_text())["metrics"]
    assert results["views/image_to_image_recall@1"]["chance"] < 0.2

"""Recipes of published models train by the command line: made small, and (slow) as they are."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.integration.runs import run, steps

QUICK = [
    "data=demo",
    "data.vocab_size=320",
    "trainer.threads=1",
    "loader.workers=0",
    "logger=none",
    "evaluate.samples=4",
]
QUICK += ["checkpoint.every_n_steps=100", "schedule.warmup_steps=2", "evaluate.batch_size=4"]
TEXT = [f"encoders.text.{key}" for key in ("width=32", "depth=2", "heads=2")]
IMAGE = [f"encoders.image.{key}" for key in ("width=32", "depth=2", "heads=2", "image_size=64")]
AUDIO = [f"encoders.audio.{key}" for key in ("width=32", "depth=2", "heads=2", "channels=8")]
SIZES = {
    "bert_base": ("mlm", [*TEXT, "tasks.mlm.prepare.max_tokens=64"]),
    "modernbert_base": ("mlm", [*TEXT, "tasks.mlm.prepare.max_tokens=64"]),
    "gpt2_small": ("clm", [*TEXT, "tasks.clm.prepare.max_tokens=64"]),
    "clip_vit_b_32": ("clip", [*TEXT, *IMAGE]),
    "wav2vec2_base": ("wav2vec", AUDIO),
    "wav2vec2_large": ("wav2vec", AUDIO),
}
FAST = ("bert_base", "gpt2_small")


def train(name: str, target: Path, *overrides: str) -> list[dict[str, float]]:
    task, _ = SIZES[name]
    shorter = ["tasks.wav2vec.prepare.min_seconds=0.25"] if task == "wav2vec" else []  # the demo's sounds are
    assert run([f"experiment={name}", *QUICK, *shorter, *overrides, f"run_dir={target}"], 600) == 0
    return [json.loads(line) for line in (target / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in SIZES])
def test_a_small_one_learns(tmp_path: Path, name: str) -> None:
    task, sizes = SIZES[name]
    more = [f"tasks.{task}.batch_size=8", "max_steps=10", "optimizer.lr=2e-3"]
    rows = train(name, tmp_path / "run", *sizes, *more)
    assert steps(tmp_path / "run") == list(range(1, 11))
    losses = [row[f"{task}/loss"] for row in rows]
    assert sum(losses[-3:]) < sum(losses[:3])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SIZES if name != "wav2vec2_large"])
def test_two_steps_at_the_published_size(tmp_path: Path, name: str) -> None:
    task, _ = SIZES[name]
    rows = train(name, tmp_path / "run", f"tasks.{task}.batch_size=2", "max_steps=2")
    assert len(rows) == 2
    assert all(math.isfinite(row["loss"]) for row in rows)

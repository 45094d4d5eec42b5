"""Every small experiment that is shipped composes, builds, trains and measures; also without some of its tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pretrain.composition import groups
from tests.integration.runs import run, steps

QUICK = [
    "max_steps=2",
    "data.vocab_size=320",
    "evaluate.samples=4",
    "checkpoint.every_n_steps=2",
    "loader.workers=0",
    "trainer.threads=1",
    "micro_batch_size=8",
]


@pytest.mark.parametrize("experiment", [name for name in groups()["experiment"] if name.endswith("_tiny")])
def test_experiment(tmp_path: Path, experiment: str) -> None:
    assert run([f"experiment={experiment}", *QUICK, f"run_dir={tmp_path / 'run'}"]) == 0
    assert steps(tmp_path / "run") == [1, 2]
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["step"] == 2
    assert all(
        "chance" in score for name, score in results["metrics"].items() if "recall" in name or "accuracy" in name
    )


@pytest.mark.parametrize(
    ("without", "measured", "gone"),
    [
        (["wav2vec"], "image_audio/image_to_audio_recall@1", "wav2vec/loss"),
        (["clap"], "clip/image_to_text_recall@1", "image_audio/image_to_audio_recall@1"),
        (["mlm", "clip", "clap"], "wav2vec/contrastive_accuracy", "mlm/prose/loss"),
    ],
)
def test_any_subset_of_the_tasks(tmp_path: Path, without: list[str], measured: str, gone: str) -> None:
    removed = [f"~tasks.{task}" for task in without]
    assert run([*QUICK, *removed, f"run_dir={tmp_path / 'run'}"]) == 0
    metrics = json.loads((tmp_path / "run/results.json").read_text())["metrics"]
    assert measured in metrics
    assert gone not in metrics


def test_other_encoders_and_another_source_by_overrides_alone(tmp_path: Path) -> None:
    others = [f"encoder@encoders.{name}={name}_small" for name in ("text", "image", "audio")]
    smaller = [f"tasks.{task}.batch_size=4" for task in ("mlm", "clip", "clap", "wav2vec")]
    prose = "tasks.mlm.source=${data.root}/prose-val-*.tar"
    assert run([*QUICK, *others, *smaller, prose, "max_steps=1", f"run_dir={tmp_path / 'run'}"]) == 0

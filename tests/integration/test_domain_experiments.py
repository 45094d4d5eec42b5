"""Experiments on own files: raw files -> shards -> views -> probes, beside the untrained ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from pretrain.cli import main
from tests.integration.runs import TEXT, outcome, run, steps

QUICK = [
    "max_steps=2",
    "evaluate.samples=8",
    "checkpoint.every_n_steps=2",
    "loader.workers=0",
    "logger=none",
    "trainer.threads=1",
    "micro_batch_size=8",
]
SAMPLES = 32


def text(folder: Path, number: int) -> dict[str, str]:
    return {"text": f"{('my card was lost', 'how do I top up')[number % 2]} on day {number}"}


def image(folder: Path, number: int) -> dict[str, str]:
    pixels = np.random.default_rng(number).integers(0, 120, (40, 30, 3), dtype=np.uint8)
    pixels[..., number % 2] += 100
    Image.fromarray(pixels).save(folder / f"{number}.png")
    return {"file": f"{number}.png"}


def audio(folder: Path, number: int) -> dict[str, str]:
    noise = np.random.default_rng(number).standard_normal(8000) * 0.1
    wave = noise + np.sin(2 * np.pi * (300, 900)[number % 2] * np.arange(8000) / 16000)
    soundfile.write(folder / f"{number}.flac", 0.3 * wave, 16000)
    return {"file": f"{number}.flac"}


@pytest.mark.parametrize(("made", "task"), [(text, "ngrams"), (image, "views"), (audio, "views")])
def test_from_raw_files_to_probes(tmp_path: Path, made, task: str) -> None:
    rows = [made(tmp_path, number) | {"label": "ab"[number % 2]} for number in range(SAMPLES)]
    for number, row in enumerate(rows):
        row["split"] = "val" if number % 4 == 3 or number % 4 == 2 else "train"
    (tmp_path / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shards = tmp_path / "shards"
    pack = ["shards", "pack", str(tmp_path / "table.jsonl"), "--out", str(shards), "--label", "label"]
    assert main([*pack, "--split", "split", *(["--tokenizer", "300"] if made is text else [])]) == 0

    name = f"{made.__name__}_domain"
    given = [f"experiment={name}", f"data.folder={shards}", f"run_dir={tmp_path / 'run'}"]
    given += [*QUICK, f"tasks.{task}.batch_size=12"]
    assert run(given) == 0
    assert steps(tmp_path / "run") == [1, 2]
    trained = json.loads((tmp_path / "run/results.json").read_text())
    began = json.loads((tmp_path / "run/evaluations/untrained.json").read_text())
    assert (trained["step"], began["step"]) == (2, 0)
    assert set(trained["metrics"]) == set(began["metrics"])
    assert {"probe/accuracy", "few_shot/accuracy@1", "few_shot/accuracy@8"} <= set(began["metrics"])
    assert any(began["metrics"][key]["value"] != score["value"] for key, score in trained["metrics"].items())
    last = (tmp_path / "run/log.txt").read_text()
    assert "untrained" in last
    assert run(given) == 0  # done already: what was measured before the first step stays
    assert json.loads((tmp_path / "run/evaluations/untrained.json").read_text()) == began


def test_measuring_before_the_first_step_changes_nothing(tmp_path: Path) -> None:
    given = [*TEXT, "max_steps=3", "checkpoint.every_n_steps=3"]
    for name, asked in (("plain", "false"), ("measured", "true")):
        assert run([*given, f"evaluate.untrained={asked}", f"run_dir={tmp_path / name}"]) == 0
    assert outcome(tmp_path / "plain") == outcome(tmp_path / "measured")
    assert not (tmp_path / "plain/evaluations").exists()
    found = json.loads((tmp_path / "measured/evaluations/untrained.json").read_text())
    assert found["metrics"].keys() == json.loads((tmp_path / "measured/results.json").read_text())["metrics"].keys()

"""From a run of the command line to ``transformers``, and from there into another run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pretrain.cli import main
from tests.integration.runs import run
from tests.integration.small_disk import on_small_disk
from tests.pretrain.export.families import OVERRIDES, published

QUICK = [
    "data=demo",
    "data.vocab_size=320",
    "trainer.threads=1",
    "loader.workers=0",
    "logger=none",
    "evaluate.samples=8",
]
QUICK += ["schedule.warmup_steps=0", "evaluate.every_n_steps=50"]


@pytest.mark.parametrize(("family", "task"), [("bert", "mlm"), ("clip", "clip"), ("wav2vec2", "wav2vec")])
def test_a_run_leaves_and_goes_on_elsewhere(tmp_path: Path, family: str, task: str) -> None:
    """Trained, exported, taken up by a run that changes nothing, and exported again: the same tensors."""
    pytest.importorskip("transformers")
    common = [*OVERRIDES[family], *QUICK, f"tasks.{task}.batch_size=8"]
    assert run([*common, "optimizer.lr=1e-3", "max_steps=4", f"run_dir={tmp_path / 'first'}"]) == 0
    assert run(["export", str(tmp_path / "first"), "--out", str(tmp_path / "there")]) == 0
    tokenizer = tmp_path / "there/tokenizer.json"
    own = [f"data.tokenizer={tokenizer}"] if tokenizer.exists() else []
    still = [*common, *own, f"init_from={tmp_path / 'there'}", "optimizer.lr=0", "max_steps=1"]
    assert run([*still, f"run_dir={tmp_path / 'second'}"]) == 0
    said = (tmp_path / "second/log.txt").read_text()
    assert "tensors taken" in said
    assert "begin anew" not in said
    assert run(["export", str(tmp_path / "second"), "--out", str(tmp_path / "again")]) == 0
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("there", "again"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for name in ("config.json", "tokenizer.json", "preprocessor_config.json"):
        there, again = tmp_path / "there" / name, tmp_path / "again" / name
        assert there.exists() == again.exists()
        if there.exists():
            assert there.read_bytes() == again.read_bytes()


def test_a_checkpoint_and_what_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    common = [*OVERRIDES["bert"], *QUICK, "tasks.mlm.batch_size=8", "max_steps=2", "checkpoint.every_n_steps=1"]
    assert run([*common, f"run_dir={tmp_path / 'run'}"]) == 0
    step = tmp_path / "run/checkpoints/step-00000001"
    assert run(["export", str(step), "--no-check"]) == 0
    assert sorted(os.listdir(tmp_path / "run/export")) == ["text-mlm-step1"]
    wider = [*common, f"init_from={tmp_path / 'run/export/text-mlm-step1'}", "encoders.text.depth=3"]
    monkeypatch.setenv("PRETRAIN_TEST_STDERR", str(tmp_path / "said"))
    assert run([*wider, f"run_dir={tmp_path / 'wider'}"]) == 2
    said = [line for line in (tmp_path / "said").read_text().splitlines() if line.startswith("pretrain: error")]
    assert len(said) == 1
    assert "num_hidden_layers is 2 there and 3 here" in said[0]


@pytest.mark.parametrize(("form", "size"), [("hf", "40k"), ("torch", "300k")])
def test_a_disk_that_is_full_is_one_line_and_leaves_nothing(
    tmp_path: Path, tokenizer_path: str, form: str, size: str
) -> None:
    """Of 300 KiB the weights take a half, and the graph that is to replace them finds no room for the other."""
    pytest.importorskip("transformers")
    published(tmp_path / "run", tokenizer_path, OVERRIDES["bert"])
    out, said = tmp_path / "disk/out", tmp_path / "said"

    def body() -> None:
        with open(said, "w") as sys.stderr:
            assert main(["export", str(tmp_path / "run"), "--format", form, "--out", str(out)]) == 1
        assert not list((tmp_path / "disk").iterdir())

    on_small_disk(tmp_path / "disk", size, body)
    (line,) = said.read_text().splitlines()
    assert line.startswith(f"pretrain: error: '{out}' could not be written: ")
    assert "No space left on device" in line
    assert line.endswith("; nothing was left there")

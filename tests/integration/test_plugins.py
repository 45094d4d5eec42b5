"""Modules of other libraries, and a user's own, trained by configs alone: random weights, nothing downloaded."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.examples import write_examples
from tests.integration.runs import kill_at, outcome, run, steps

QUICK = [
    "data.vocab_size=320",
    "trainer.threads=1",
    "loader.workers=0",
    "logger=none",
    "evaluate.samples=8",
    "optimizer.lr=2e-3",
]
QUICK += ["schedule.warmup_steps=2", "checkpoint.every_n_steps=3", "evaluate.every_n_steps=50"]
TEXT = ["encoder@encoders.text=hf_bert", "encoders.text.width=32", "tasks.mlm.batch_size=8"]
IMAGE = ["encoders.text.width=32", "encoders.text.depth=1", "tasks.clip.batch_size=8"]
DOCS = Path(__file__).parents[2] / "docs/encoders.md"


def rows(run_dir: Path, name: str) -> list[float]:
    return [json.loads(line)[name] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_a_bert_of_transformers_learns_and_continues_bit_for_bit(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    common = ["experiment=mlm_tiny", *TEXT, *QUICK, "max_steps=12"]
    assert run([*common, f"run_dir={tmp_path / 'straight'}"]) == 0
    losses = rows(tmp_path / "straight", "mlm/loss")
    assert sum(losses[-3:]) < sum(losses[:3])
    assert kill_at([*common, f"run_dir={tmp_path / 'cut'}"], tmp_path / "cut", 7)
    assert run([*common, f"run_dir={tmp_path / 'cut'}"]) == 0
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "straight")


@pytest.mark.parametrize(
    ("package", "chosen"),
    [
        ("timm", ["encoder@encoders.image=timm_vit", "encoders.image.module.depth=1"]),
        ("transformers", ["encoder@encoders.image=hf_vit", "micro_batch_size=3"]),
    ],
)
def test_vision_transformers_of_other_libraries(tmp_path: Path, package: str, chosen: list[str]) -> None:
    pytest.importorskip(package)
    assert run(["experiment=clip_tiny", *chosen, *IMAGE, *QUICK, "max_steps=10", f"run_dir={tmp_path / 'run'}"]) == 0
    assert steps(tmp_path / "run") == list(range(1, 11))
    losses = rows(tmp_path / "run", "clip/loss")
    assert sum(losses[-3:]) < sum(losses[:3])


def test_wav2vec2_of_torchaudio_in_audio_text(tmp_path: Path) -> None:
    chosen = ["~tasks.mlm", "~tasks.clip", "~tasks.wav2vec", "~evaluators.image_audio", "tasks.clap.batch_size=6"]
    chosen += ["encoder@encoders.audio=torchaudio_wav2vec2", "encoders.text.width=32", "encoders.audio.lengths=lengths"]
    assert run([*chosen, *QUICK, "max_steps=8", f"run_dir={tmp_path / 'run'}"]) == 0
    losses = rows(tmp_path / "run", "clap/loss")
    assert sum(losses[-3:]) < sum(losses[:3])


def test_weights_from_a_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512}
    config = transformers.BertConfig(vocab_size=320, hidden_size=32, **sizes)
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    chosen = ["experiment=mlm_tiny", *TEXT, *QUICK, "max_steps=1", f"encoders.text.weights={tmp_path / 'bert'}"]
    assert run([*chosen, f"run_dir={tmp_path / 'run'}"]) == 0
    assert "BertModel begins with the weights in" in (tmp_path / "run/log.txt").read_text()
    assert run([*chosen, "encoders.text.width=64", f"run_dir={tmp_path / 'other'}"]) == 2


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            ["experiment=clip_tiny", "encoder@encoders.image=hf_bert", "tasks.clip.prepare.a.image_size=48"],
            "tasks.clip: side 'a' is prepared as image, but its encoder 'image' takes text",
        ),
        (
            ["experiment=clip_tiny", "encoder@encoders.image=timm_vit", "encoders.image.module.embed_dim=96"],
            r"encoders.image: VisionTransformer.forward_features\(\) gives features of shape \(1, 37, 96\) .*width=192",
        ),
        (
            ["experiment=wav2vec2_tiny", "encoder@encoders.audio=torchaudio_wav2vec2", "+encoders.audio.channels=48"],
            "unknown key 'encoders.audio.channels'",
        ),
        (
            ["experiment=clm_tiny", "encoder@encoders.text=hf_bert"],
            "encoders.text: causal=true, but in BertModel a token's features depend on later tokens",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: list[str], message: str
) -> None:
    monkeypatch.setenv("PRETRAIN_TEST_STDERR", str(tmp_path / "stderr"))
    assert run([*chosen, *QUICK, "max_steps=2", f"run_dir={tmp_path / 'run'}"]) == 2
    said = [line for line in (tmp_path / "stderr").read_text().splitlines() if line.startswith("pretrain: error")]
    assert len(said) == 1
    assert re.search(message, said[0])


def test_the_worked_example_of_the_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < write_examples(DOCS, tmp_path) < 60
    monkeypatch.syspath_prepend(tmp_path)
    own = ["--config-dir", str(tmp_path / "my_configs"), "encoder@encoders.text=convtext", "trusted_roots=[mynet]"]
    command = [*own, "experiment=mlm_tiny", *QUICK, "tasks.mlm.batch_size=8", "max_steps=10"]
    assert run([*command, f"run_dir={tmp_path / 'run'}"]) == 0
    losses = rows(tmp_path / "run", "mlm/loss")
    assert sum(losses[-3:]) < sum(losses[:3])

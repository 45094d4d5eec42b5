"""The example of docs/examples/picture-search.md, command by command, on a dozen pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pretrain.cli import main
from tests.conftest import png, sentence, wav
from tests.integration.runs import run, steps

COUNT = 12


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = []
    for number in range(COUNT):
        (tmp_path / f"{number}.png").write_bytes(png(number, 64))
        (tmp_path / f"{number}.wav").write_bytes(wav(number, 16000))
        split = "val" if number % 4 == 0 else "train"
        own = {"file": f"{number}.png", "captions": {"en": sentence(number)}, "split": split}
        rows.append(own | {"speech": {"fr": {"file": f"{number}.wav"}}})
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.slow
def test_from_files_to_a_gallery(
    tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fields = ["--image", "file", "--audio", "speech.fr.file", "--caption", "captions.en", "--split", "split"]
    fields += ["--tokenizer", "300"]
    assert main(["shards", "pack", str(table), "--out", "shards/own", *fields]) == 0
    quick = ["max_steps=2", "trainer.threads=1", "loader.workers=0"]
    quick += [f"tasks.{task}.batch_size=8" for task in ("clip", "spoken")]
    assert run(["experiment=picture_search", "data.folder=shards/own", *quick]) == 0
    folder = tmp_path / "runs/picture_search"
    assert steps(folder) == [1, 2]
    metrics = json.loads((folder / "results.json").read_text())["metrics"]
    assert {"text/text_to_image_recall@1", "sound/audio_to_image_recall@1"} <= set(metrics)
    embed = ["embed", "runs/picture_search", "shards/own/own-*.tar", "--encoder", "image", "--out", "pictures"]
    assert main([*embed, "--threads", "1", "--workers", "0"]) == 0
    capsys.readouterr()
    assert main(["search", "pictures", "--text", sentence(3), "-k", "4", "--html", "text.html", "--json"]) == 0
    (by_text,) = json.loads(capsys.readouterr().out)
    assert main(["search", "pictures", "--file", "3.wav", "-k", str(COUNT), "--html", "sound.html", "--json"]) == 0
    (by_sound,) = json.loads(capsys.readouterr().out)
    assert len(by_text["hits"]) == 4
    assert sorted(hit["key"] for hit in by_sound["hits"]) == sorted(str(number) for number in range(COUNT))
    for page in ("text.html", "sound.html"):
        assert "data:image/" in (tmp_path / page).read_text()

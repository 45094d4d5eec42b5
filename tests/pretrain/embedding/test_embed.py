import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from data.errors import InputError
from data.stream import Stream
from modalities.layout import Layout
from modalities.text.prepare import TextPrepare
from pretrain.cli import main
from pretrain.embedding import parts
from pretrain.embedding.extract import Extractor
from pretrain.lease import Lease
from pretrain.trained import Trained
from tests.conftest import png
from tests.pretrain.embedding.small import SMALL, published, run, sizes

MEMBERS = ("txt", "png", "wav")


@pytest.fixture(scope="session")
def trained(tmp_path_factory, tokenizer_path):
    """(run directory, model)"""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return folder, run(folder, tokenizer_path)


def embed(trained, pattern, out, *more):
    return main(["embed", str(trained[0]), pattern, "--out", str(out), "--threads", "1", *more])


def vectors(out, kind="npy"):
    """(vectors, keys) of all parts."""
    numbers = range(len(list(Path(out).glob(f"*.{kind}"))))
    found = [parts.read(Path(out), number, kind) for number in numbers]
    keys = [row["key"] for _, rows in found for row in rows if "left_out" not in row]
    return np.concatenate([np.asarray(one) for one, _ in found]), keys


@pytest.mark.parametrize(("encoder", "member"), [("text", "txt"), ("image", "png"), ("audio", "wav")])
def test_vectors_are_those_of_the_trained_encoder_one_sample_at_a_time(trained, shards, tmp_path, encoder, member):
    pattern = shards(count=11, members=MEMBERS)
    assert embed(trained, pattern, tmp_path / "out", "--encoder", encoder, "--batch-size", "4", "--part-size", "8") == 0
    found, keys = vectors(tmp_path / "out")
    assert keys == [f"own-{n:05d}" for n in range(11)]
    model = trained[1].encoders[encoder]
    prepare = Trained(str(trained[0])).prepare(encoder)
    items = _samples_of(pattern, prepare, 11)
    with torch.no_grad():
        expected = torch.cat([model.embed(prepare.collate([item]), 12) for item in items])
    assert np.allclose(found, expected.numpy(), atol=1e-5 * float(expected.abs().max()))
    complete = json.loads((tmp_path / "out/complete.json").read_text())
    assert complete == {"samples": 11, "left_out": 0, "parts": 2}


@pytest.mark.parametrize("kind", ["safetensors", "parquet"])
def test_formats_hold_the_same_numbers(trained, shards, tmp_path, kind):
    pattern = shards(count=9)
    common = ("--encoder", "text", "--batch-size", "2", "--part-size", "4")
    embed(trained, pattern, tmp_path / "npy", *common)
    embed(trained, pattern, tmp_path / kind, *common, "--format", kind)
    (a, keys), (b, others) = vectors(tmp_path / "npy"), vectors(tmp_path / kind, kind)
    assert a.tobytes() == b.tobytes()
    assert keys == others
    if kind == "parquet":
        from pyarrow import parquet

        table = parquet.read_table(tmp_path / kind / "embeddings-00001.parquet")
        assert table.column("key").to_pylist() == keys[4:8]
        assert table.column("embeddings").to_pylist()[0] == pytest.approx(a[4].tolist())


def test_pool_layer_and_projection(trained, shards, tmp_path):
    pattern = shards(count=5)
    text = trained[1].encoders["text"]
    prepare = Trained(str(trained[0])).prepare("text")
    items = _samples_of(pattern, prepare, 5)
    batch = prepare.collate(items)
    with torch.no_grad():
        features = text(batch).tokens
        first = batch["layout"].first(features)
    embed(trained, pattern, tmp_path / "a", "--encoder", "text", "--pool", "first", "--projection", "none")
    assert np.allclose(vectors(tmp_path / "a")[0], first.numpy(), atol=1e-5)
    whole = tmp_path / "b"
    embed(trained, pattern, whole, "--encoder", "text", "--layer", "0", "--pool", "first")
    beginnings = text.token_embedding(batch["tokens"])[batch["layout"].offsets[:-1]]
    assert np.allclose(vectors(whole)[0], beginnings.detach().numpy(), atol=1e-6)
    embed(trained, pattern, tmp_path / "c", "--encoder", "text", "--layer", "2", "--pool", "mean")
    with torch.no_grad():
        text.trunk.norm, norm = torch.nn.Identity(), text.trunk.norm
        expected = batch["layout"].mean(text(batch).tokens)
        text.trunk.norm = norm
    assert np.allclose(vectors(tmp_path / "c")[0], expected.numpy(), atol=1e-4)


def _samples_of(pattern, prepare, count):
    stream = Stream("x", pattern, 0, None)
    return [prepare(stream.read(place), np.random.default_rng(0), False) for place in stream.locate(np.arange(count))]


def test_unusable_samples_are_left_out_and_named(trained, shards, tmp_path, capsys):
    pattern = shards(count=10, broken=(0, 1, 6))
    assert embed(trained, pattern, tmp_path / "out", "--encoder", "text", "--batch-size", "2", "--part-size", "4") == 0
    found, keys = vectors(tmp_path / "out")
    assert keys == [f"own-{n:05d}" for n in (2, 3, 4, 5, 7, 8, 9)]
    assert len(found) == 7
    rows = [json.loads(line) for line in (tmp_path / "out/embeddings-00000.jsonl").read_text().splitlines()]
    assert [row.get("left_out") for row in rows[:2]] == ["member txt is not UTF-8 (byte 0)"] * 2
    assert "3 unusable ones left out" in capsys.readouterr().out


def test_going_on_gives_the_same_bytes_and_makes_only_what_is_missing(trained, shards, tmp_path):
    pattern = shards(count=20)
    common = ("--encoder", "text", "--batch-size", "2", "--part-size", "4")
    embed(trained, pattern, tmp_path / "a", *common)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b/embeddings-00002.npy").unlink()
    (tmp_path / "b/.embeddings-00002.npy.part").write_bytes(b"half")
    (tmp_path / "b/complete.json").unlink()
    kept = os.stat(tmp_path / "b/embeddings-00001.npy").st_mtime_ns
    assert embed(trained, pattern, tmp_path / "b", *common) == 0
    assert os.stat(tmp_path / "b/embeddings-00001.npy").st_mtime_ns == kept
    assert content(tmp_path / "a") == content(tmp_path / "b")


def content(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if not path.name.startswith(".")}


def test_two_processes_make_what_one_makes(trained, shards, tmp_path):
    pattern = shards(count=20)
    common = ("--encoder", "text", "--batch-size", "2", "--part-size", "4")
    embed(trained, pattern, tmp_path / "one", *common)
    assert embed(trained, pattern, tmp_path / "two", *common, "--devices", "2") == 0
    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    assert one == two


def test_files_are_samples_too(trained, tmp_path):
    folder = tmp_path / "files"
    (folder / "b").mkdir(parents=True)
    (folder / "a.png").write_bytes(png(1))
    (folder / "b/c.png").write_bytes(png(2))
    (folder / "note.txt").write_text("x")
    assert embed(trained, str(folder), tmp_path / "out", "--encoder", "image", "--files") == 0
    assert vectors(tmp_path / "out")[1] == ["a.png", "b/c.png"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--encoder", "txt"), "--encoder 'txt' is not in .*did you mean 'text'"),
        ((), "has several encoders; give --encoder, one of: audio, image, text"),
        (("--encoder", "text", "--pool", "median"), "--pool 'median' is unknown; .*: first, last, max, mean, own"),
        (("--encoder", "text", "--projection", "64"), "--projection '64' is not there; .*choices: 12, none"),
        (("--encoder", "text", "--layer", "3"), "--layer 3 is not between 0 and 2"),
        (("--encoder", "text", "--format", "csv"), "--format 'csv' is unknown"),
        (("--encoder", "text", "--part-size", "100"), "--part-size 100 is no multiple of --batch-size 64"),
        (("--encoder", "text", "--prepare", "membr=x"), "takes no membr; did you mean 'member'"),
        (("--encoder", "image"), "have no image member"),
    ],
)
def test_wrong_input_is_one_line(trained, shards, tmp_path, capsys, more, message):
    assert embed(trained, shards(count=3), tmp_path / "out", *more) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(message, said), said


def test_another_recipe_in_the_same_folder_is_refused(trained, shards, tmp_path, capsys):
    pattern = shards(count=3)
    embed(trained, pattern, tmp_path / "out", "--encoder", "text")
    assert embed(trained, pattern, tmp_path / "out", "--encoder", "text", "--pool", "last") == 2
    assert "holds other embeddings: pool='own' there, 'last' now" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    assert embed(trained, pattern, tmp_path / "mine", "--encoder", "text") == 2
    assert "is no folder of embeddings" in capsys.readouterr().err


def test_a_folder_goes_on_with_the_kind_of_device_that_it_was_begun_with(trained, shards, tmp_path, monkeypatch):
    pattern = shards(count=3)
    assert embed(trained, pattern, tmp_path / "out", "--encoder", "text") == 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # a host that has one
    assert embed(trained, pattern, tmp_path / "out", "--encoder", "text") == 0


def test_a_share_is_one_process_s_at_a_time(trained, shards, tmp_path, capsys):
    pattern = shards(count=3)
    embed(trained, pattern, tmp_path / "out", "--encoder", "text")
    reading, writing = os.pipe()
    other = os.fork()
    if not other:
        held = Lease(tmp_path / "out/.shares/0-of-1", "other")
        os.write(writing, b"1" if held else b"0")
        time.sleep(60)
        os._exit(0)
    os.read(reading, 1)
    capsys.readouterr()
    assert embed(trained, pattern, tmp_path / "out", "--encoder", "text") == 2
    assert "another process is at share 0 of 1; end it first" in capsys.readouterr().err
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    assert embed(trained, pattern, tmp_path / "out", "--encoder", "text") == 0


def test_averaged_weights_are_others(shards, tmp_path, tokenizer_path):
    model = run(tmp_path / "run", tokenizer_path, average=True)
    pattern = shards(count=3)
    embed((tmp_path / "run", model), pattern, tmp_path / "out", "--encoder", "text", "--ema")
    encoder = Trained(str(tmp_path / "run"), averaged=True).encoder("text")
    assert torch.equal(encoder.token_embedding.weight, 0.5 * model.encoders["text"].token_embedding.weight)
    with pytest.raises(InputError, match="--layer 1 has no projection"):
        Extractor(encoder, layer=1, projection="12")


def test_encoders_of_other_libraries(shards, tmp_path, tokenizer_path, capsys):
    pytest.importorskip("timm")
    chosen = ["encoder@encoders.image=timm_vit", "encoders.image.module.depth=1", "encoders.image.image_size=16"]
    small = [one for one in SMALL if "encoders.image" not in one]
    model = published(tmp_path / "run", tokenizer_path, [*small, *chosen])
    pattern = shards(count=5, members=MEMBERS)
    out = tmp_path / "out"
    given = ("--encoder", "image", "--pool", "mean", "--projection", "none")
    assert embed((tmp_path / "run", model), pattern, out, *given) == 0
    prepare = Trained(str(tmp_path / "run")).prepare("image")
    batch = prepare.collate(_samples_of(pattern, prepare, 5))
    with torch.no_grad():
        tokens, layout = model.encoders["image"](batch)
    assert np.allclose(vectors(out)[0], layout.mean(tokens).numpy(), atol=1e-4)
    assert embed((tmp_path / "run", model), pattern, tmp_path / "other", "--encoder", "image", "--layer", "1") == 2
    assert "--layer: ImagePlugin has no trunk of blocks" in capsys.readouterr().err


def test_audio_and_text_of_a_batch_are_prepared_without_masks(trained):
    opened = Trained(str(trained[0]))
    for name, kind in (("text", "TextPrepare"), ("image", "ImagePrepare"), ("audio", "AudioPrepare")):
        assert type(opened.prepare(name)).__name__ == kind


def test_a_causal_encoder_is_not_given_the_end_it_only_predicts(shards, tmp_path, tokenizer_path):
    small = ["experiment=clm_tiny", "encoders.text.vocab_size=320", *sizes("text", width=16, heads=2)]
    model = published(tmp_path / "run", tokenizer_path, small)
    pattern = shards(count=3)
    assert embed((tmp_path / "run", model), pattern, tmp_path / "out", "--pool", "last") == 0
    prepare = TextPrepare(tokenizer_path, 100)
    (item, *_) = _samples_of(pattern, prepare, 1)
    tokens = torch.from_numpy(item["tokens"][:-1])
    assert item["tokens"][-1] == prepare.end
    with torch.no_grad():
        found = model.encoders["text"]({"tokens": tokens, "layout": Layout([len(tokens)])}).tokens[-1]
    assert np.allclose(vectors(tmp_path / "out")[0][0], found.numpy(), atol=1e-5)

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.sample import Sample
from pretrain.cli import main
from pretrain.embedding.table import Table
from pretrain.search.gallery import Answer, page
from tests.conftest import png, sentence
from tests.pretrain.embedding.small import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer_path):
    """A run, shards of 12 samples of all kinds, and a table of each modality."""
    from data.write import write
    from tests.conftest import MEMBERS

    folder = tmp_path_factory.mktemp("search")
    run(folder / "run", tokenizer_path)
    write(((f"own-{n}", {m: make(n) for m, make in MEMBERS.items()}) for n in range(12)), folder / "shards", "own")
    for name in ("text", "image", "audio"):
        common = ["--out", str(folder / name), "--encoder", name, "--part-size", "4", "--batch-size", "4", "--quiet"]
        assert main(["embed", str(folder / "run"), str(folder / "shards/own-*.tar"), *common]) == 0
    return folder


def search(folder, table, capsys, *more):
    assert main(["search", str(folder / table), "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_sample_is_most_like_itself(folder, capsys, tmp_path):
    (found,) = search(folder, "text", capsys, "--text", sentence(5), "-k", "3")
    assert found["hits"][0]["key"] == "own-5"
    assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-5)
    (tmp_path / "x.png").write_bytes(png(7))
    (found,) = search(folder, "image", capsys, "--file", str(tmp_path / "x.png"))
    assert found["hits"][0]["key"] == "own-7"
    (found,) = search(folder, "audio", capsys, "--key", "own-3", "-k", "100")
    assert found["hits"][0]["key"] == "own-3"
    assert len(found["hits"]) == 12


def test_a_query_is_prepared_as_the_samples_were(folder, capsys, tmp_path, tokenizer_path):
    tokenizer, moved = tmp_path / "tokenizer.json", tmp_path / "moved.json"
    tokenizer.write_bytes(Path(tokenizer_path).read_bytes())
    run(tmp_path / "run", tokenizer)
    shards, out = str(folder / "shards/own-*.tar"), ["--out", str(tmp_path / "short"), "--quiet"]
    own = ["--encoder", "text", "--prepare", "max_tokens=4", "--prepare", f"tokenizer={moved}"]
    tokenizer.rename(moved)
    assert main(["embed", str(tmp_path / "run"), shards, *out, *own]) == 0
    (found,) = search(tmp_path, "short", capsys, "--text", sentence(5), "-k", "1")
    assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-5)
    out[1] = str(tmp_path / "image")
    assert main(["embed", str(tmp_path / "run"), shards, *out, "--encoder", "image"]) == 0
    assert main(["search", out[1], "--text", sentence(5)]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert search(tmp_path, "image", capsys, "--text", sentence(5), "--prepare", f"tokenizer={moved}")
    assert main(["search", out[1], "--text", sentence(5), "--prepare", "tokeniser=x"]) == 2
    assert "--prepare tokeniser: what prepares a query takes no such argument" in capsys.readouterr().err


def test_pictures_are_shown_as_the_encoder_sees_them_and_bombs_are_not():
    for content, shown in ((np.full((8, 8), 128 * 257, np.uint16), 128), (np.zeros((8, 8, 4), np.uint8), 255)):
        file = io.BytesIO()
        Image.fromarray(content).save(file, "png")
        (data,) = re.findall(
            'base64,([^"]+)', page("x", [Answer("q", Sample("", "", {"png": file.getvalue()}), [])], None)
        )
        assert np.abs(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int) - shown).max() <= 2
    for side in (9000, 20_000):
        file = io.BytesIO()
        Image.new("1", (side, side)).save(file, "png")
        assert "too large a picture" in page("x", [Answer("q", Sample("", "", {"png": file.getvalue()}), [])], None)


def test_other_modalities_are_found_by_the_joint_space(folder, capsys):
    texts, images = (Table(folder / name).vectors().astype(np.float64) for name in ("text", "image"))
    similarity = (texts / np.linalg.norm(texts, axis=1)[:, None]) @ (images / np.linalg.norm(images, axis=1)[:, None]).T
    for way in (["--text", sentence(4)], ["--key", "own-4", "--of", str(folder / "text")]):
        (found,) = search(folder, "image", capsys, *way)
        assert [hit["key"] for hit in found["hits"][:4]] == [f"own-{n}" for n in np.argsort(-similarity[4])[:4]]


def test_the_page_holds_all_it_shows_and_asks_for_nothing(folder, tmp_path, capsys):
    page = tmp_path / "page.html"
    for table in ("image", "audio", "text"):
        assert (
            main(["search", str(folder / table), "--key", "own-2", "--text", "<b>a & b</b>", "--html", str(page)]) == 0
        )
        html = page.read_text()
        assert html.count("<li>") == 20
        assert html.count("<img ") == html.count("<audio ") == 21  # of each hit, and of the sample that was asked with
        assert "&lt;b&gt;a &amp; b&lt;/b&gt;" in html
        assert "<b>a & b" not in html
        assert not re.search(r"(src|href)=\"(?!data:)", html)
        assert "http" not in html.replace("http-equiv", "")
        assert sentence(2) in html
    assert "own-2" in capsys.readouterr().out


def test_samples_that_are_gone_are_not_shown_but_found(folder, tmp_path, capsys):
    import shutil

    shutil.copytree(folder / "image", tmp_path / "image")
    recipe = json.loads((tmp_path / "image/embeddings.json").read_text())
    recipe["source"] = [str(tmp_path / "gone-*.tar")]
    (tmp_path / "image/embeddings.json").write_text(json.dumps(recipe))
    page = tmp_path / "page.html"
    assert main(["search", str(tmp_path / "image"), "--key", "own-2", "--html", str(page)]) == 0
    assert "The samples cannot be shown" in page.read_text()
    assert "own-2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("table", "more", "message"),
    [
        ("image", (), "nothing to search for"),
        ("image", ("--key", "own-99"), "key 'own-99' is not in .*did you mean"),
        ("image", ("--key", "own-1", "--of", "shards"), "'shards' is no folder of embeddings"),
        ("image", ("--file", "none.png"), "--file 'none.png' cannot be read"),
        ("image", ("--text", "a", "-k", "0"), "--top 0 is not 1 or more"),
        ("image", ("--text", "a", "--encoder", "image"), "no encoder of .* takes text into the joint space of 12"),
        ("shards", ("--text", "a"), "is no folder of embeddings"),
    ],
)
def test_wrong_input_is_one_line(folder, capsys, table, more, message):
    assert main(["search", str(folder / table), *more]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(message, said), said


def test_another_checkpoint_is_not_asked(folder, tmp_path, tokenizer_path, capsys):
    model = run(tmp_path / "run", tokenizer_path, average=True)  # the average makes it another checkpoint
    assert model is not None
    assert main(["search", str(folder / "image"), "--text", "a", "--run", str(tmp_path / "run")]) == 2
    assert "is not the one that" in capsys.readouterr().err


def test_a_folder_that_is_not_complete_is_refused(folder, tmp_path, capsys):
    import shutil

    shutil.copytree(folder / "image", tmp_path / "image")
    (tmp_path / "image/complete.json").unlink()
    (tmp_path / "image/embeddings-00001.npy").unlink()
    assert main(["search", str(tmp_path / "image"), "--key", "own-2"]) == 2
    assert "is not complete: 2 of 3 parts" in capsys.readouterr().err

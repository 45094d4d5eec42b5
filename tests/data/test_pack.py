import csv
import hashlib
import json
import tarfile

import numpy as np
import pytest
import soundfile
from PIL import Image

from data.errors import InputError
from data.pack.documents import pieces
from data.pack.fields import Fields
from data.pack.pack import Packing, pack
from data.pack.source import default_prefix, locate
from pretrain.verbs.shards import main


def image(path, kind=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), "red").save(path, kind)
    return path


def audio(path, samples=160):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(samples, dtype=np.float32), 16000)
    return path


def table(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def samples(shard):
    """Key -> extension -> bytes, read by Python's own tarfile."""
    found = {}
    with tarfile.open(shard) as tar:
        for member in tar:
            folder, _, base = member.name.rpartition("/")
            stem, _, extension = base.partition(".")
            found.setdefault(f"{folder}/{stem}" if folder else stem, {})[extension] = tar.extractfile(member).read()
    return found


def packed(source, out, **options):
    fields = {name: options.pop(name) for name in list(options) if name in Fields.__dataclass_fields__}
    report = pack(locate(str(source)), out, Packing(prefix="p", fields=Fields(**fields), **options))
    found = {}
    for shard in report.shards:
        found |= samples(out / shard["name"])
    return report, found


def reasons(report):
    return {reason: entry.count for reason, entry in report.left_out.items()}


def test_image_folder_with_captions_keeps_bytes_and_order(tmp_path):
    first = image(tmp_path / "in/b/Cat.v1.JPEG")
    (tmp_path / "in/b/Cat.v1.txt").write_text("a cat")
    image(tmp_path / "in/c/dog.png")
    report, found = packed(tmp_path / "in", tmp_path / "out", label="folder")
    assert found == {
        "b/Cat_v1": {"jpg": first.read_bytes(), "txt": b"a cat", "cls": b"b"},
        "c/dog": {"png": (tmp_path / "in/c/dog.png").read_bytes(), "cls": b"c"},
    }
    assert list(found) == ["b/Cat_v1", "c/dog"]
    assert not report.left_out
    assert report.members == {"jpg": 1, "png": 1, "txt": 1, "cls": 2}


def test_what_cannot_be_used_is_left_out_with_its_reason(tmp_path):
    root = tmp_path / "in"
    image(root / "good.png")
    (root / "broken.jpg").write_bytes(b"not a picture")
    (root / "broken.wav").write_bytes(b"RIFFnothing")
    (root / "empty.jpg").write_bytes(b"")
    audio(root / "silent.wav", 0)
    (root / "paper.pdf").write_bytes(b"x")
    (root / "README.txt").write_text("no caption")
    (root / ".hidden.png").write_bytes(b"x")
    image(root / "latin.png")
    (root / "latin.txt").write_bytes("é".encode("latin-1"))
    report, found = packed(root, tmp_path / "out")
    assert list(found) == ["good"]
    assert reasons(report) == {
        "undecodable image": 1,
        "undecodable audio": 1,
        "empty file": 1,
        "zero-length audio": 1,
        "unknown file type": 1,
        "text file that is no caption of a file beside it": 1,
        "not UTF-8": 1,
    }
    written = json.loads((tmp_path / "out/p-report.json").read_text())
    assert written["left_out"]["undecodable image"] == {
        "count": 1,
        "examples": ["broken.jpg (broken.jpg: UnidentifiedImageError)"],
    }
    assert written["samples"] == 1


def test_same_stem_twice_gets_a_number(tmp_path):
    image(tmp_path / "in/cat.jpg")
    image(tmp_path / "in/cat.png")
    report, found = packed(tmp_path / "in", tmp_path / "out")
    assert list(found) == ["cat", "cat-2"]
    assert not report.left_out


def test_text_folder(tmp_path):
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "in/sub/a.txt").write_bytes(b"\xef\xbb\xbfHallo")
    (tmp_path / "in/b.md").write_text("zwei")
    (tmp_path / "in/c.txt").write_text(" \n")
    report, found = packed(tmp_path / "in", tmp_path / "out")
    assert found == {"b": {"txt": b"zwei"}, "sub/a": {"txt": b"Hallo"}}
    assert reasons(report) == {"empty text": 1}


def test_image_table_nested_caption_split_and_missing(tmp_path):
    for name in "abc":
        image(tmp_path / f"images/{name}.jpg")
    rows = [
        {"file": "images/a.jpg", "captions": {"en": "one"}, "split": "train", "width": 4, "label": 7},
        {"file": "images/b.jpg", "captions": {"de": "zwei"}, "split": "train"},
        {"file": "images/c.jpg", "captions": {"en": "three"}, "split": "val"},
        {"file": "images/no.jpg", "captions": {"en": "four"}, "split": "val"},
        {"file": None, "captions": {"en": "five"}, "split": "val"},
        {"file": "images/c.jpg", "captions": {"en": " "}, "split": "val"},
        {"file": "images/c.jpg", "captions": {"en": "six"}},
    ]
    report, found = packed(table(tmp_path / "t.jsonl", rows), tmp_path / "out", caption="captions.en", split="split")
    assert [shard["name"] for shard in report.shards] == ["p-train-000000.tar", "p-val-000000.tar"]
    assert list(found) == ["images/a", "images/c"]
    assert found["images/a"]["txt"] == b"one"
    assert found["images/a"]["cls"] == b"7"
    assert json.loads(found["images/a"]["json"]) == {"width": 4}
    expected = {"no caption": 1, "missing file": 1, "no file named": 1, "empty caption": 1, "no split": 1}
    assert reasons(report) == expected
    with pytest.raises(InputError, match=r"choose one, e.g. captions\.en"):
        packed(tmp_path / "t.jsonl", tmp_path / "out2", caption="captions")


def test_caption_list_and_label_as_caption(tmp_path):
    image(tmp_path / "a.png")
    source = table(tmp_path / "t.jsonl", [{"file": "a.png", "captions": ["one", "", "two"], "label": "hat"}])
    _, found = packed(source, tmp_path / "out")
    assert found["a"]["txt"] == b"one"
    assert json.loads(found["a"]["captions.json"]) == ["one", "two"]
    _, found = packed(source, tmp_path / "out2", caption="label")
    assert (found["a"]["txt"], found["a"]["cls"]) == (b"hat", b"hat")


def test_csv_rows_about_one_file_stay_in_one_split(tmp_path):
    for number in range(30):
        image(tmp_path / f"i{number}.png")
    with open(tmp_path / "t.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption"])
        writer.writerows([f"i{number}.png", f'says "{turn}",\nthen'] for number in range(30) for turn in range(3))
    report, found = packed(tmp_path / "t.csv", tmp_path / "out", val=0.3)
    assert report.samples == 90
    assert found["i0-2"]["txt"] == b'says "1",\nthen'
    val = {key.partition("-")[0] for key in samples(tmp_path / "out/p-val-000000.tar")}
    train = {key.partition("-")[0] for key in samples(tmp_path / "out/p-train-000000.tar")}
    assert val
    assert not val & train


def test_audio_table_tsv(tmp_path):
    clip = audio(tmp_path / "clips/x.flac")
    (tmp_path / "t.tsv").write_text("path\tsentence\tclass\nclips/x.flac\thello\tgreeting\nclips/x.flac\thello\n")
    report, found = packed(tmp_path / "t.tsv", tmp_path / "out")
    assert found == {"clips/x": {"flac": clip.read_bytes(), "txt": b"hello", "cls": b"greeting"}}
    assert reasons(report) == {"row has another number of columns than the header": 1}


def test_documents_are_cut_and_pieces_stay_together(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    rows = [{"id": f"d.{n}", "text": "Some words here. " * 20, "lang": "eng", "long": "x" * 300} for n in range(40)]
    table(folder / "one.jsonl", rows[:20])
    table(folder / "two.jsonl", rows[20:])
    report, found = packed(folder, tmp_path / "out", max_characters=100, val=0.25)
    assert all(len(sample["txt"]) <= 100 for sample in found.values())
    assert json.loads(found["one-000000-p0000"]["json"]) == {"id": "d.0", "lang": "eng"}
    train, val = (
        {key.rpartition("-")[0] for key in samples(tmp_path / f"out/p-{split}-000000.tar")}
        for split in ("train", "val")
    )
    assert not train & val
    assert len(train | val) == 40
    assert report.splits["val"] > 0
    _, named = packed(folder, tmp_path / "out2", key="id", max_characters=0)
    assert list(named)[:2] == ["d_0", "d_1"]


def test_bad_lines_and_duplicate_keys_are_left_out(tmp_path):
    lines = [
        b'{"text": "one", "id": 1}',
        b"{",
        b'"text"',
        b'{"text": "\xff", "id": 2}',
        b"",
        b'{"text": "two", "id": 1}',
        b'{"text": ""}',
    ]
    (tmp_path / "t.jsonl").write_bytes(b"\n".join(lines))
    report, found = packed(tmp_path / "t.jsonl", tmp_path / "out", key="id")
    assert found == {"1": {"txt": b"one"}}
    assert reasons(report) == {"line is not a JSON object": 2, "not UTF-8": 1, "duplicate key": 1, "no key": 1}
    assert report.left_out["duplicate key"].examples == ["t.jsonl:6 (1)"]


def test_shards_are_bounded_and_the_same_input_gives_the_same_bytes(tmp_path):
    source = table(tmp_path / "t.jsonl", [{"text": "word " * 1000} for _ in range(30)])
    report, found = packed(source, tmp_path / "out", max_bytes=30_000)
    assert len(found) == 30
    assert len(report.shards) > 1
    # tarfile fills its file up to records of 10 KiB
    assert all(shard["bytes"] <= 30_000 + 10_240 for shard in report.shards)
    packed(source, tmp_path / "again", max_bytes=30_000)
    for shard in report.shards:
        first, second = ((tmp_path / name / shard["name"]).read_bytes() for name in ("out", "again"))
        assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()


def test_overwrite_replaces_the_whole_earlier_packing(tmp_path):
    source = table(tmp_path / "t.jsonl", [{"text": "word " * 1000} for _ in range(30)])
    packed(source, tmp_path / "out", max_bytes=30_000)
    neighbour = tmp_path / "out/p-other-report.json"
    neighbour.write_text("{}")
    with pytest.raises(InputError, match=r"p-train-000000.tar' exists already"):
        packed(source, tmp_path / "out")
    with pytest.raises(InputError, match=r"p-train-000000.tar' exists already"):
        packed(source, tmp_path / "out", val=0.5)
    packed(source, tmp_path / "out", val=0.5, overwrite=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "p-train-000000.tar", "p-train-000000.tar.idx", "p-val-000000.tar", "p-val-000000.tar.idx",
        "p-report.json", "p-other-report.json",
    }  # fmt: skip


def test_failure_leaves_the_earlier_packing(tmp_path):
    packed(table(tmp_path / "t.jsonl", [{"text": "one"}]), tmp_path / "out")
    table(tmp_path / "t.jsonl", [{"text": ""}])
    with pytest.raises(InputError, match=r"nothing in .* can be packed: empty text: 1, e.g. t.jsonl:1"):
        packed(tmp_path / "t.jsonl", tmp_path / "out", overwrite=True)
    assert samples(tmp_path / "out/p-train-000000.tar") == {"t-000000": {"txt": b"one"}}
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": "texd"}, r"--text 'texd' is no field of .*; did you mean 'text'\? choices: file, n, text"),
        ({"text": "text", "image": "file"}, "--text 'text' is for documents"),
        ({"text": "text", "caption": "file"}, "needs images or audio"),
    ],
)
def test_wrong_fields_are_named(tmp_path, fields, message):
    source = table(tmp_path / "t.jsonl", [{"text": "x", "n": 1, "file": "y"}])
    with pytest.raises(InputError, match=message):
        packed(source, tmp_path / "out", **fields)
    assert not (tmp_path / "out").exists()


def test_inputs_that_hold_nothing(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        locate(str(tmp_path / "no"))
    with pytest.raises(InputError, match="holds 0 files"):
        locate(str(tmp_path))
    with pytest.raises(InputError, match=r"no field of .* looks like text"):
        packed(table(tmp_path / "t.jsonl", [{"n": 1}]), tmp_path / "out")
    with pytest.raises(InputError, match="it is empty"):
        packed(table(tmp_path / "e.jsonl", []), tmp_path / "out")


def test_glob_takes_captions_from_beside_the_files(tmp_path):
    image(tmp_path / "pets/a.png")
    (tmp_path / "pets/a.txt").write_text("a pet")
    _, found = packed(tmp_path / "pets/*.png", tmp_path / "out")
    assert found["a"]["txt"] == b"a pet"
    assert default_prefix(str(tmp_path / "pets/*.png")) == "pets"


@pytest.mark.parametrize("limit", [1, 7, 40, 200])
def test_pieces_lose_no_word_and_keep_the_limit(limit):
    text = (
        "CHAPTER I.\n\nIt was late. He said: “Go!” And so she went,\nslowly.\n\n"
        + "verylongword " * 9
        + "再见。你好！" * 9
    )
    found = pieces(text, limit)
    assert all(0 < len(piece) <= limit for piece in found)
    assert "".join("".join(found).split()) == "".join(text.split())


def test_pieces_end_where_a_reader_pauses():
    assert pieces("One two.\n\nThree four. Five six.", 24) == ["One two.", "Three four. Five six."]
    assert pieces("Three four. Five six seven.", 20) == ["Three four.", "Five six seven."]
    assert pieces("alpha beta gamma", 11) == ["alpha beta", "gamma"]
    assert pieces("  \n", 5) == []
    assert pieces("a b", 0) == ["a b"]


def test_shards_say_their_split_also_where_nothing_is_set_aside(tmp_path):
    report, _ = packed(table(tmp_path / "t.jsonl", [{"text": "one"}]), tmp_path / "out")
    assert [(shard["name"], shard["split"]) for shard in report.shards] == [("p-train-000000.tar", "train")]
    assert report.splits == {"train": 1}


def test_the_tokenizer_has_not_seen_what_is_set_aside(tmp_path):
    splits = ("train", "extra", "val", "Valid", "validation", "TEST", "dev")
    rows = [{"text": f"{split.lower()}{split.lower()} " * 50, "part": split} for split in splits]
    pack = ["pack", str(table(tmp_path / "t.jsonl", rows)), "--tokenizer", "400", "--split", "part", "--out"]
    assert main([*pack, str(tmp_path / "out"), "--name", "my-val-set"]) == 0
    words = "".join(json.loads((tmp_path / "out/tokenizer.json").read_text())["model"]["vocab"])
    assert [split for split in splits if split.lower() * 2 in words] == ["train", "extra"]
    table(tmp_path / "t.jsonl", rows[2:])
    with pytest.raises(InputError, match=r"--tokenizer 400 needs samples to train on, and all are in: val, Valid"):
        main([*pack, str(tmp_path / "none")])


def test_what_was_asked_for_and_is_not_there_is_said(tmp_path, capsys):
    source = table(tmp_path / "t.jsonl", [{"text": "one two three"}, {"text": "two"}])
    assert main(["pack", str(source), "--out", str(tmp_path / "out"), "--val", "0.001", "--tokenizer", "4000"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "entries (the texts give no more than that, 4,000 were asked for)" in said
    assert said.endswith("val: none of 2 samples fell to a share of 0.001; give a larger --val")
    (tmp_path / "book.txt").write_text("Some words. " * 400)
    one = ["pack", str(tmp_path / "*.txt"), "--out", str(tmp_path / "book"), "--val", "0.001", "--max-characters", "20"]
    assert main(one) == 0
    assert "give a larger --val, or more documents: what is cut from one" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"one INPUT, got a.jsonl, b.jsonl: pack held-out ones into another --out"):
        main(["pack", "a.jsonl", "b.jsonl", "--out", str(tmp_path / "out")])


def test_columns_as_open_clip_names_them(tmp_path):
    image(tmp_path / "a.png")
    report, _ = packed(table(tmp_path / "t.jsonl", [{"filepath": "a.png", "title": "one"}]), tmp_path / "out")
    assert report.members == {"png": 1, "txt": 1}


def test_command_line(tmp_path, capsys):
    source = table(tmp_path / "t.jsonl", [{"text": f"some words number {n}"} for n in range(50)])
    out = tmp_path / "out"
    assert main(["pack", str(source), "--out", str(out), "--val", "0.2", "--tokenizer", "270", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["samples"] == 50
    assert json.loads((out / "tokenizer.json").read_text())["model"]["type"] == "BPE"
    assert main(["pack", str(source), "--out", str(out), "--overwrite", "--val", "0.2"]) == 0
    assert "50 samples from 50 rows" in capsys.readouterr().out
    for wrong in (["--val", "2"], ["--max-size", "x"], ["--name", "a/b"], ["--max-characters", "-1"]):
        with pytest.raises(InputError, match=wrong[0]):
            main(["pack", str(source), "--out", str(out), *wrong])

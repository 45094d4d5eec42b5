"""What is in the packed shards, of folders, tables and documents."""

import csv
import hashlib
import json

import pytest

from data.errors import InputError
from data.pack.source import default_prefix
from tests.data.packing import audio, beyond_reach, image, packed, reasons, samples, table


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


def test_glob_takes_captions_from_beside_the_files(tmp_path):
    image(tmp_path / "pets/a.png")
    (tmp_path / "pets/a.txt").write_text("a pet")
    _, found = packed(tmp_path / "pets/*.png", tmp_path / "out")
    assert found["a"]["txt"] == b"a pet"
    assert default_prefix(str(tmp_path / "pets/*.png")) == "pets"


def test_shards_say_their_split_also_where_nothing_is_set_aside(tmp_path):
    report, _ = packed(table(tmp_path / "t.jsonl", [{"text": "one"}]), tmp_path / "out")
    assert [(shard["name"], shard["split"]) for shard in report.shards] == [("p-train-000000.tar", "train")]
    assert report.splits == {"train": 1}


def test_columns_as_open_clip_names_them(tmp_path):
    image(tmp_path / "a.png")
    report, _ = packed(table(tmp_path / "t.jsonl", [{"filepath": "a.png", "title": "one"}]), tmp_path / "out")
    assert report.members == {"png": 1, "txt": 1}


def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    image(tmp_path / "in" / "a.png")
    beyond_reach(tmp_path / "in")
    with pytest.raises(InputError, match=r"folder '.*x' cannot be read: File name too long"):
        packed(tmp_path / "in", tmp_path / "out")

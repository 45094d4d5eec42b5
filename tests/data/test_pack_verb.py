"""``pretrain shards pack`` as a command: what it says, what it refuses, what it leaves when it fails."""

import json

import pytest

from data.errors import InputError
from data.pack.source import locate
from pretrain.verbs.shards import main
from tests.data.packing import packed, samples, table


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

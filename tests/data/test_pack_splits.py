"""Where packed samples go: which split, and one packing at a time."""

import json

import numpy as np
import pytest
import soundfile

from data.errors import InputError
from data.pack.fields import Fields
from data.pack.pack import Packing, pack
from data.pack.source import locate
from data.pack.splits import Splits
from pretrain.verbs.shards import main


def table(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def packed(source, out, **fields):
    return pack(locate(str(source)), out, Packing(prefix="p", fields=Fields(**fields)))


def test_splits_keep_their_letters(tmp_path):
    rows = [{"text": f"words {n}", "split": ("训练", "测试")[n % 2]} for n in range(6)]
    report = packed(table(tmp_path / "t.jsonl", rows), tmp_path / "out", split="split")
    assert report.splits == {"训练": 3, "测试": 3}


def test_splits_that_would_become_one_are_refused(tmp_path):
    rows = [{"text": f"words {n}", "split": ("dev-1", "dev/1")[n % 2]} for n in range(2)]
    with pytest.raises(InputError, match="splits 'dev-1' and 'dev/1' would both be called 'dev_1'"):
        packed(table(tmp_path / "t.jsonl", rows), tmp_path / "out", split="split")
    assert not list(tmp_path.glob("out/*.tar"))


def test_a_second_packing_of_the_same_name_waits_for_the_first(tmp_path):
    first = Splits(tmp_path, "p", 1 << 20, overwrite=False)
    with first:
        first.add("train", "a", {"txt": b"first"})
        with pytest.raises(InputError, match=r"another packing writes '.*/p-\*.tar' at this moment"):
            Splits(tmp_path, "p", 1 << 20, overwrite=False).__enter__()
        with Splits(tmp_path, "q", 1 << 20, overwrite=False) as other:
            other.add("train", "b", {"txt": b"other"})
            other.publish()
        assert first.publish()[0]["samples"] == 1
    assert b"first" in (tmp_path / "p-train-000000.tar").read_bytes()
    with Splits(tmp_path, "p", 1 << 20, overwrite=True) as again:  # the lock is gone with its holder
        again.add("train", "c", {"txt": b"again"})
        again.publish()
    assert not list(tmp_path.glob(".*"))


def test_a_packing_that_is_refused_keeps_no_lock(tmp_path):
    source, out = table(tmp_path / "t.jsonl", [{"text": "words"}]), tmp_path / "out"
    command = ["pack", str(source), "--out", str(out)]
    assert main(command) == 0
    for _ in range(2):
        with pytest.raises(InputError, match="exist"):
            main(command)
    assert main([*command, "--overwrite"]) == 0
    assert not list(out.glob(".*"))


def test_what_a_killed_packing_left_is_no_part_of_the_next(tmp_path):
    (tmp_path / ".p.packing").mkdir()
    (tmp_path / ".p.packing" / ".p-train-000000.tar.part").write_bytes(b"left")
    with Splits(tmp_path, "p", 1 << 20, overwrite=False) as splits:
        splits.add("train", "a", {"txt": b"words"})
        assert len(splits.publish()) == 1
    assert not list(tmp_path.glob(".*"))


def test_a_quotation_mark_of_a_tsv_is_one(tmp_path):
    (tmp_path / "t.tsv").write_text('id\tsentence\n1\t"Hello world\n2\tfoo\n3\tbar"\n4\tplain\n')
    report = packed(tmp_path / "t.tsv", tmp_path / "out", text="sentence")
    assert (report.samples, sum(report.left_out.values())) == (4, 0)


def test_a_file_field_that_names_no_file_costs_its_row_alone(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(160, np.float32), 16000)
    rows = [{"audio": name, "caption": "words"} for name in (".", "a.wav", "./", "/")]
    report = packed(table(tmp_path / "t.jsonl", rows), tmp_path / "out", audio="audio", caption="caption")
    assert (report.samples, report.rows) == (1, 4)


def test_a_vocabulary_that_is_too_small_is_refused_before_anything_is_written(tmp_path):
    source = table(tmp_path / "t.jsonl", [{"text": f"words {n}"} for n in range(5)])
    with pytest.raises(InputError, match="--tokenizer 5 is too small; a byte-level vocabulary needs 261 or more"):
        main(["pack", str(source), "--out", str(tmp_path / "out"), "--tokenizer", "5"])
    assert not (tmp_path / "out").exists()

"""``pretrain shards check``, ``stats``, ``index`` and ``card`` on real shards."""

import io
import json
import os

import numpy as np
import pytest
import soundfile

from data.errors import InputError
from data.shards.source import Source
from data.write import write
from pretrain.verbs.card import named
from pretrain.verbs.shards import main
from tests.conftest import png, wav


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def called(capsys, *arguments, code=0):
    assert main([str(a) for a in arguments]) == code
    return capsys.readouterr().out


def found(capsys, *arguments, code=0):
    return json.loads(called(capsys, *arguments, "--json", code=code))


@pytest.fixture
def mixed(tmp_path):
    """Two shards: pictures with captions and a recording each, some of them bad."""
    jpg_named_png = b"no picture at all"
    samples = [(f"s{n:03d}", {"png": png(n), "txt": f"number {n}".encode(), "wav": wav(n)}) for n in range(150)]
    samples[3] = ("s003", {**samples[3][1], "png": jpg_named_png})
    samples[77] = ("s077", {**samples[77][1], "txt": b"\xff\xfe"})
    samples[120] = ("s120", {**samples[120][1], "wav": silent()})
    samples[130] = ("s130", samples[7][1])
    samples[131] = ("s131", samples[7][1])
    write(samples, tmp_path / "own", "own", 2**20)
    return tmp_path / "own"


def silent():
    file = io.BytesIO()
    soundfile.write(file, np.zeros(8000, np.float32), 16000, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize("workers", [0, 2])
def test_check_decodes_and_compares(mixed, capsys, workers):
    report = found(capsys, "check", mixed, "--decode", "--duplicates", "--workers", workers, code=1)
    assert report["samples"] == report["decoded"] == 150
    assert len(report["shards"]) > 1
    assert [(bad["key"], bad["member"]) for bad in report["bad"]] == [("s003", "png"), ("s077", "txt"), ("s120", "wav")]
    assert "not a picture" in report["bad"][0]["reason"]
    assert "silent" in report["bad"][2]["reason"]
    assert report["duplicates"]["count"] == 2
    assert [key for _, key in report["duplicates"]["examples"][0]] == ["s007", "s130", "s131"]
    human = called(capsys, "check", mixed, "--decode", "--duplicates", "--workers", workers, code=1)
    assert "3 members that cannot be used" in human
    assert "duplicates: 2 samples" in human
    assert "s077.txt" in human


def test_check_alone_reads_headers_and_finds_nothing_wrong(mixed, capsys):
    before = {path: path.stat().st_mtime_ns for path in mixed.iterdir()}
    report = found(capsys, "check", mixed)
    assert "bad" not in report
    assert "duplicates" not in report
    assert {path: path.stat().st_mtime_ns for path in mixed.iterdir()} == before
    assert "sound" in called(capsys, "check", mixed)


def test_check_names_damage_and_keys(tmp_path, capsys):
    for name in ("a", "b"):
        write([(f"k{n}", {"txt": b"x" * 700}) for n in range(5)], tmp_path / name, name)
    cut = tmp_path / "b" / "b-000000.tar"
    cut.write_bytes(cut.read_bytes()[:4000])
    said = called(capsys, "check", f"{tmp_path}/a/*.tar::{cut}", code=1)
    assert "1 damaged" in said
    assert "breaks off" in said
    assert "keys: 2 stand in another shard too, e.g. 'k0' in " in said


@pytest.mark.parametrize("workers", [0, 2])
def test_check_says_of_each_shard_that_cannot_be_read_why_and_checks_the_others(tmp_path, capsys, workers):
    write([(f"k{n}", {"txt": b"x" * 700}) for n in range(5)], tmp_path, "a")
    sound = tmp_path / "a-000000.tar"
    plain, empty, gone = (tmp_path / name for name in ("plain.tar.gz", "empty.tgz", "gone.tar"))
    plain.write_bytes(sound.read_bytes())
    empty.touch()
    (tmp_path / "all.jsonl").write_text('{"shard": "gone.tar", "samples": 5}\n')
    pattern = f"{plain}::{sound}::{empty}::{tmp_path}/all.jsonl"
    report = found(capsys, "check", pattern, "--decode", "--duplicates", "--workers", workers, code=1)
    human = called(capsys, "check", pattern, "--workers", workers, code=1)
    assert report["damaged"] == [str(plain), str(empty), str(gone)]
    assert [shard["samples"] for shard in report["shards"]] == [0, 5, 0, 0]
    reasons = [shard["damage"] for shard in report["shards"]]
    assert "is named as gzip, and is none" in reasons[0][0]
    assert reasons[1] == []
    assert "is named as gzip, and is none" in reasons[2][0]
    assert reasons[3] == [f"shard '{gone}' cannot be read: No such file or directory"]
    assert report["duplicates"]["count"] == 4
    assert "3 damaged" in human
    assert "5 samples" in human


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_check_of_a_shard_that_may_not_be_read(tmp_path, capsys):
    write([("k", {"txt": b"x"})], tmp_path, "a")
    os.chmod(tmp_path / "a-000000.tar", 0)
    assert "Permission denied" in called(capsys, "check", tmp_path, code=1)


def test_a_cache_that_cannot_be_written_is_no_fault_of_shards(tmp_path):
    (tmp_path / "a.tar.gz").touch()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made"):
        main(["check", str(tmp_path / "a.tar.gz"), "--cache", str(tmp_path / "file" / "cache")])


def test_check_with_a_bound_on_pixels(mixed, capsys):
    report = found(capsys, "check", mixed, "--decode", "--max-pixels", 100, code=1)
    assert sum("exceeds max_pixels=100" in bad["reason"] for bad in report["bad"]) == 149


@pytest.mark.parametrize("workers", [0, 2])
def test_stats(mixed, capsys, tokenizer_path, workers):
    report = found(capsys, "stats", mixed, "--tokenizer", tokenizer_path, "--workers", workers)
    assert (report["samples"], report["measured"]) == (150, 150)
    assert report["samples_per_shard"]["total"] == 150
    assert report["images"]["png"]["width"]["count"] == 149
    assert report["audio"]["wav"]["sampling_rates"] == {"16000": 150}
    assert report["text"]["txt"]["tokens"]["count"] == 149
    assert [entry["count"] for entry in report["unreadable"]] == [1, 1]
    human = called(capsys, "stats", mixed)
    assert "16,000 Hz 150" in human
    assert "1 unreadable: png: no picture" in human


def test_stats_of_some_samples(mixed, capsys):
    report = found(capsys, "stats", mixed, "--samples", 30)
    assert report["samples"] == 150
    assert report["measured"] == report["members"]["txt"]["count"] == 30
    assert "measured: 30 samples" in called(capsys, "stats", mixed, "--samples", 30)


def test_index_writes_a_manifest_that_stands_for_the_shards(mixed, tmp_path, capsys):
    for path in mixed.glob("*.idx"):
        path.unlink()
    report = found(capsys, "index", mixed, "--manifest", mixed / "all.jsonl")
    assert report["samples"] == 150
    assert len(list(mixed.glob("*.idx"))) == report["shards"]
    rows = [json.loads(line) for line in (mixed / "all.jsonl").read_text().splitlines()]
    assert [row["shard"] for row in rows] == sorted(path.name for path in mixed.glob("*.tar"))
    assert Source("own", str(mixed / "all.jsonl")).fingerprint() == Source("own", str(mixed)).fingerprint()
    moved = mixed.rename(tmp_path / "moved")  # relative names move with it
    assert len(Source("own", str(moved / "all.jsonl"))) == 150
    found(capsys, "index", moved, "--manifest", tmp_path / "moved" / ".." / "all.jsonl")
    assert json.loads((tmp_path / "all.jsonl").read_text().splitlines()[0])["shard"].startswith("moved/own-")


def test_index_names_what_is_damaged_or_empty(mixed, capsys):
    (mixed / "zz.tar").write_bytes(b"\0" * 10240)
    cut = mixed / "zy.tar"
    cut.write_bytes((mixed / "own-000000.tar").read_bytes()[:100_000])
    report = found(capsys, "index", mixed, "--manifest", mixed / "all.jsonl", code=1)
    assert list(report["damaged"]) == [str(cut)]
    assert report["empty"] == [str(mixed / "zz.tar")]
    rows = [json.loads(line) for line in (mixed / "all.jsonl").read_text().splitlines()]
    assert [bool(row.get("damage")) for row in rows] == [False] * (len(rows) - 1) + [True]
    assert "no sample, left out of the manifest" in called(
        capsys, "index", mixed, "--manifest", mixed / "b.jsonl", code=1
    )


def test_card(mixed, tmp_path, capsys):
    out = tmp_path / "CARD.md"
    given = [f"ours={mixed}", f"{mixed}/own-000000.tar", "--duplicates", "--title", "Ours", "--licence", "ours=CC0"]
    assert called(capsys, "card", *given, "--out", out) == ""
    text = out.read_text()
    assert text.startswith("# Ours\n")
    assert "## Source `own`" in text
    assert "| ours |" in text
    assert "Exact duplicates over all sources: 2 samples." in text  # the shard of both sources counts once
    assert f"- fingerprint: `{Source('ours', str(mixed)).fingerprint()}`" in text
    assert "150 | 100" not in text
    with pytest.raises(InputError, match="exists already"):
        main(["card", str(mixed), "--out", str(out)])
    assert "licence: MIT" in called(capsys, "card", mixed, "--licence", "MIT")  # one source needs no name


def test_names_of_sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b").mkdir()
    patterns = ["x=s3://bucket/y/*.tar", "a=b", "data/books-{000000..000009}.tar", "data/*.tar", "data/books-1.tar"]
    assert named([*patterns, "news.jsonl", "*.tar"]) == {
        "x": "s3://bucket/y/*.tar",
        "a=b": "a=b",
        "books": patterns[2],
        "data": "data/*.tar",
        "books-2": "data/books-1.tar",
        "news": "news.jsonl",
        "shards": "*.tar",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "none"], "'none' match nothing"),
        (["check", "own", "--workers", "-1"], "--workers -1 is not 0 or more"),
        (["stats", "own", "--samples", "0"], "--samples 0 is not 1 or more"),
        (["stats", "own", "--tokenizer", "none.json"], "tokenizer 'none.json' does not exist"),
        (["index", "own", "--manifest", "all.json"], "must end in .jsonl"),
        (["index", "own", "--manifest", "no/all.jsonl"], "there is no folder 'no'"),
        (["card"], "give the shards of the card, or --run RUN"),
        (["card", "own", "--run", "x"], "one of them"),
        (["card", "--run", "own"], "is not a run directory"),
        (["card", "a=own", "b=own", "--licence", "c=MIT"], "choices: a, b"),
        (["card", "a=own", "--licence", "c=MIT"], "'c=MIT' must be NAME=TEXT with the name of a source; choices: a"),
        (["card", "own=own", "own=own"], "two sources are named 'own'"),
        (["card", "x=none"], "source 'x': shards 'none' match nothing"),
        (["stats", "own", "--cache-size", "much"], "--cache-size 'much' is no size"),
        (["check", "own", "--decode", "--sample-rate", "0"], "--sample-rate 0 is not 1 or more"),
        (["check", "own", "--decode", "--min-seconds", "nan"], "--min-seconds nan is not 0 or more"),
    ],
)
def test_wrong_input(mixed, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        main(arguments)

"""``pretrain shards ledger`` and ``replay``, over run directories as a run writes them."""

import io
import json
import re
import tarfile

import pytest
from omegaconf import OmegaConf

from data.errors import InputError
from data.shards.sources import seen_from
from data.write import write
from pretrain import ledger, replay
from pretrain.provenance import provenance
from pretrain.run import RunDirectory
from pretrain.verbs.shards import main
from tests.data.shards import tars
from tests.pretrain.verbs.rundir import SIZES, Run


@pytest.fixture
def sources(shards):
    pairs, prose = shards("pairs", 11, ("png", "txt")), shards("prose", 23)
    return {"mlm": {"a": {"pattern": prose, "weight": 2.0}, "b": {"pattern": pairs, "weight": 1.0}}, "clip": pairs}


def printed(capsys, *arguments):
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("record", [True, False])
def test_replay_names_what_was_seen(tmp_path, sources, capsys, record):
    bad = {("mlm", 5), ("clip", 2), ("clip", 3)}
    run = Run(tmp_path / "run", sources, record=record, bad=bad)
    rows = list(map(json.loads, printed(capsys, "replay", str(run.path), "--steps", ":", "--json").splitlines()))
    assert {(r["step"], r["task"], r["position"]): (r["shard"], r["key"]) for r in rows} == run.seen
    assert {r["recorded"] for r in rows} == {record}
    assert {(r["task"], r["position"]) for r in rows if "replaced" in r} == bad
    assert [r["replaced"][0]["reason"] for r in rows if "replaced" in r] == ["broken"] * 3
    within = [(r["step"], r["position"]) for r in rows if r["task"] == "mlm"]
    assert within == sorted(within)
    human = printed(capsys, "replay", str(run.path), "--steps", "1:2", "--task", "mlm")
    assert f"8 samples as {'recorded' if record else 'computed'}, 1 in place of unusable ones" in human
    assert "broken]" in human


def test_recorded_and_computed_agree_on_any_number_of_ranks(tmp_path, sources):
    one = Run(tmp_path / "one", sources, ranks=1)
    two = Run(tmp_path / "two", sources, ranks=2)
    whole = list(ledger.recorded(two.directory, 1, 6))
    assert whole == list(ledger.recorded(one.directory, 1, 6)) == list(ledger.computed(one.directory, 1, 6))
    assert [row["position"] for row in whole if row["task"] == "mlm"] == [0, 4, 8, 12, 16, 20]
    assert len(list(ledger.recorded(two.directory, 3, 4))) == 4


def test_ledger_prints_a_line_a_step_and_task(tmp_path, sources, capsys):
    run = Run(tmp_path / "run", sources)
    rows = list(map(json.loads, printed(capsys, "ledger", str(run.path), "--steps", "2:3").splitlines()))
    assert [(r["step"], r["task"], len(r["samples"])) for r in rows] == [
        (2, "mlm", 4),
        (2, "clip", 2),
        (3, "mlm", 4),
        (3, "clip", 2),
    ]
    assert all(r["recorded"] for r in rows)
    assert tuple(rows[0]["samples"][0]) == run.seen[2, "mlm", 4]


def test_a_second_start_counts_from_where_it_began(tmp_path, sources, capsys):
    run = Run(tmp_path / "run", sources, steps=4)
    run.directory.rewind(2)
    run.start(2, {"mlm": 8, "clip": 4})
    for step in (3, 4, 5):
        run.step(step, step - 3, {"mlm": 8, "clip": 4}, 1, True, ())
    rows = list(map(json.loads, printed(capsys, "replay", str(run.path), "--steps", ":", "--json").splitlines()))
    assert {(r["step"], r["task"], r["position"]): (r["shard"], r["key"]) for r in rows} == run.seen
    assert len(rows) == 5 * 6


def test_samples_seen_counts_each_start_with_its_own_batches(tmp_path, sources):
    run = Run(tmp_path / "run", sources, steps=0)
    for step, sizes, jumps in ((3, (8, 2), None), (5, (2, 2), {"mlm": 40}), (4, (1, 0), None), (4, (1, 1), None)):
        row = {"step": step, "positions": {}, "batch_sizes": dict(zip(SIZES, sizes, strict=True))}
        run.directory.append("starts.jsonl", row | ({"jumps": jumps} if jumps else {}))
    seen = [ledger.samples_seen(run.directory, step) for step in (0, 1, 3, 4, 5, 7)]
    assert seen == [0, 6, 18, 28, 30, 34]  # the third went back to before the second
    other = RunDirectory(str(tmp_path / "other"))
    other.append("starts.jsonl", {"step": 100, "batch_sizes": {"mlm": 4}})  # goes on from another run
    assert ledger.samples_seen(other, 101) == 4


def test_dump_as_files(tmp_path, sources, capsys):
    run = Run(tmp_path / "run", sources, bad={("clip", 2)})
    said = printed(capsys, "replay", str(run.path), "--steps", "2", "--dump", str(tmp_path / "out"))
    assert f"written to {tmp_path / 'out'}" in said
    index = list(map(json.loads, (tmp_path / "out" / "index.jsonl").read_text().splitlines()))
    assert len(index) == 6
    for row in index:
        sample = run.streams[row["task"]].read(place_of(run, row))
        for extension, content in sample.members.items():
            assert (tmp_path / "out" / row["task"] / f"{row['name']}.{extension}").read_bytes() == content
        assert row["name"].startswith(f"00000002_{row['position']:012d}_")
    with pytest.raises(InputError, match="is not an empty folder"):
        main(["replay", str(run.path), "--steps", "2", "--dump", str(tmp_path / "out")])


def place_of(run, row):
    seen = replay.seen(run.directory, run.streams, row["step"], row["step"], row["task"])
    return next(sample.place for sample in seen if sample.position == row["position"])


@pytest.mark.parametrize("tar", [False, True])
def test_dump_names_what_no_file_can_be_called(tmp_path, capsys, tar):
    long = "x" * 200
    keys = [
        "v1.0/0_12",
        "v1.0/0_13",
        "k" * 300 + "1",
        "k" * 300 + "2",
        "\u00e4" * 200,
        "\udcff",
        "line\nbreak",
        "plain",
    ]
    contents = {key: {"txt": b"%d" % n, f"{long}\udcff": b"a", f"{long}b": b"b"} for n, key in enumerate(keys)}
    write(contents.items(), tmp_path / "odd", "odd")
    run = Run(tmp_path / "run", {"mlm": str(tmp_path / "odd")}, steps=2)
    out = tmp_path / "out"
    said = printed(capsys, "replay", str(run.path), "--steps", ":", "--dump", str(out), *["--tar"] * tar, "--json")
    rows = {row["key"]: row["name"] for row in map(json.loads, said.splitlines())}
    assert set(rows) == set(keys)
    assert rows == {r["key"]: r["name"] for r in map(json.loads, (out / "index.jsonl").read_text().splitlines())}
    assert rows["plain"].endswith("_plain")
    assert rows["v1.0/0_12"].endswith("_v1_0_0_12")
    assert len({name.rpartition("_")[2] for name in rows.values()}) == len(keys)
    if tar:
        found = dict(tars.samples(out / "mlm-000000.tar"))
    else:
        found = {name: {} for name in rows.values()}
        for path in (out / "mlm").iterdir():
            name, _, extension = path.name.partition(".")
            found[name][extension] = path.read_bytes()
    for key, name in rows.items():
        assert sorted(found[name].values()) == sorted(contents[key].values())
        assert found[name]["txt"] == contents[key]["txt"]


def test_dump_as_shards(tmp_path, sources, capsys):
    run = Run(tmp_path / "run", sources)
    printed(capsys, "replay", str(run.path), "--steps", "1:2", "--dump", str(tmp_path / "out"), "--tar", "--json")
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "out" / "clip-000000.tar").read_bytes())) as archive:
        names = archive.getnames()
    assert len(names) == 2 * 2 * 2
    assert names[0].startswith("00000001_000000000000_")
    assert main(["check", str(tmp_path / "out")]) == 0


def test_the_listing_says_which_name_a_sample_was_given(tmp_path, capsys):
    write([(key, {"txt": b"words"}) for key in ("a.b/c", "plain")], tmp_path / "odd", "odd")
    run = Run(tmp_path / "run", {"clip": str(tmp_path / "odd")}, steps=1)
    said = printed(capsys, "replay", str(run.path), "--steps", "1", "--dump", str(tmp_path / "out"))
    [line] = [line for line in said.splitlines() if "->" in line]
    assert re.search(r"  a\.b/c  -> 00000001_\d{12}_a_b_c$", line)
    assert "->" not in printed(capsys, "replay", str(run.path), "--steps", "1")


def test_wrong_input(tmp_path, sources):
    run = Run(tmp_path / "run", sources)
    for arguments, message in (
        (["replay", str(tmp_path), "--steps", "1"], "is not a run directory"),
        (["replay", str(run.path), "--steps", "3:1"], "--steps '3:1' is not A:B"),
        (["replay", str(run.path), "--steps", "70:80"], "has done 6 steps"),
        (["replay", str(run.path), "--steps", "1", "--task", "clop"], "did you mean 'clip'"),
        (["replay", str(run.path), "--steps", "1", "--tar"], "give --dump DIR as well"),
    ):
        with pytest.raises(InputError, match=message):
            main(arguments)


def test_relative_shards_are_found_from_other_folders(tmp_path, sources, capsys, monkeypatch):
    (tmp_path / "else[1]").mkdir()
    named = {"mlm": {"a": {"pattern": "shards/prose-*.tar", "weight": 2.0}, "b": ["shards/pairs-000000.tar"]}}
    plain = "~/x.tar::shards/pairs-{000000..000000}.tar"
    assert seen_from("/f", plain) == "~/x.tar::/f/shards/pairs-{000000..000000}.tar"
    assert seen_from("/f", "http://[::1]:80/a.tar::s3://b/*.tar") == "http://[::1]:80/a.tar::s3://b/*.tar"
    monkeypatch.chdir(tmp_path)
    assert seen_from("/f", plain) == plain
    run = Run(tmp_path / "run", named | {"clip": "shards/pairs-*.tar"})
    expected = printed(capsys, "replay", str(run.path), "--steps", ":")
    monkeypatch.chdir(tmp_path / "else[1]")
    with pytest.raises(InputError, match=r"match nothing: .* the run does not say which one it was started in"):
        main(["replay", str(run.path), "--steps", ":"])
    run.directory.append("starts.jsonl", provenance([]) | {"step": 6, "positions": {}, "batch_sizes": {}})
    with pytest.raises(InputError, match=r"/else.+/shards/prose-\*\.tar' match nothing"):
        main(["replay", str(run.path), "--steps", ":"])
    (tmp_path / "shards").rename(tmp_path / "else[1]" / "shards")
    monkeypatch.chdir(tmp_path)
    assert printed(capsys, "replay", str(run.path), "--steps", ":") == expected
    assert "## Source `clip`" in printed(capsys, "card", "--run", str(run.path), "--workers", "0")


@pytest.mark.parametrize("record", [True, False])
def test_other_shards_than_the_run_had_are_named(tmp_path, sources, shards, record):
    run = Run(tmp_path / "run", sources, record=record)
    shards("prose", 29)
    with pytest.raises(InputError, match=r"source 'mlm\.a' has other shards now"):
        main(["replay", str(run.path), "--steps", "1"])
    with pytest.raises(InputError, match="the sources of task 'mlm' are other ones now"):
        main(["card", "--run", str(run.path)])


def test_a_missing_rank_is_noticed(tmp_path, sources):
    run = Run(tmp_path / "run", sources)
    (run.path / "ledger" / "rank-00001.jsonl").unlink()
    with pytest.raises(InputError, match="is a rank's file missing"):
        main(["replay", str(run.path), "--steps", "1"])


def test_card_of_a_weight_that_changes(tmp_path, sources, capsys):
    run = Run(tmp_path / "run", sources)
    config = OmegaConf.load(run.path / "config.yaml")
    config["tasks"]["mlm"]["weight"] = {"from": 0, "to": 1, "steps": 1000}
    OmegaConf.save(config, run.path / "config.yaml")
    text = printed(capsys, "card", "--run", str(run.path), "--workers", "0")
    assert "weight of the loss from 0 to 1 over 1,000 steps." in text


def test_card_of_a_run(tmp_path, sources, capsys):
    run = Run(tmp_path / "run", sources)
    text = printed(capsys, "card", "--run", str(run.path), "--workers", "0", "--licence", "clip=CC0")
    assert "Run `own`, 6 of 9 steps, seed 0." in text
    assert "## Task `mlm`" in text
    counts = {task: stream.progress(6 * SIZES[task]) for task, stream in run.streams.items()}
    drawn, epochs = counts["mlm"]["mlm.a"]
    assert f"| mlm.a | 2 | 66.7 % | {drawn} | {100 * drawn / 24:.1f} % | {epochs:.3g} |" in text
    assert "| clip | 1 | 100.0 % | 12 | 100.0 % | 1.09 |" in text
    assert "## Source `mlm.b, clip`" in text  # the same shards, named once
    assert re.search(r"\| all \| \d+ \| 34 \|", text)
    assert "| CC0 |" in text

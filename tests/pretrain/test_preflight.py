"""All that keeps a run from starting is told at once, before its first step and before anything is written down."""

import gzip
import json
import re
from pathlib import Path

import pytest
from rich.filesize import decimal

from data.errors import InputError
from data.shards.source import Source
from data.store.cache import Cache
from data.store.store import Store
from data.stream import Stream
from pretrain.cli import main
from pretrain.faults import Faults
from pretrain.mixed import mixed_bytes
from tests.faulty_store import FaultyStore
from tests.integration.ranks import run_together
from tests.pretrain.test_cli import TINY, own


@pytest.fixture
def told(capsys):
    """Calls the command line, which refuses; returns its lines of error."""

    def call(*arguments):
        assert main(list(arguments)) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return [line.removeprefix("pretrain: error: ") for line in said.splitlines() if "pretrain: error: " in line]

    return call


@pytest.fixture
def mlm(tokenizer_path, tmp_path):
    def arguments(source, *more):
        data = [*own(tokenizer_path), f"data.train={source}", "data.heldout=null"]
        run = f"run_dir={tmp_path / 'run'}"
        return ["experiment=mlm_tiny", *TINY, "tasks.mlm.batch_size=4", run, *data, *more]

    return arguments


def manifest(folder: Path, **changes) -> str:
    """A manifest of the shards in ``folder``: as they are, but for ``changes`` of the first one's row."""
    rows = []
    for path in sorted(folder.glob("*.tar")):
        count = len(Source("x", str(path)))
        row = {"shard": path.name, "samples": count, "bytes": path.stat().st_size, "members": {"txt": count}}
        rows.append(row | (changes if not rows else {}))
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "all.jsonl")


def test_faults_of_data_samples_and_disk_are_told_together(told, mlm, shards, tmp_path):
    good, bad = shards("own"), shards("bad", 12, ("png", "txt"), broken=range(12))
    (tmp_path / "run").mkdir()
    (tmp_path / "run/checkpoints").write_text("in the way")
    lines = told(
        *mlm(good, "+encoder@encoders.image=image_tiny", "+task@tasks.clip=clip", "+task@tasks.more=mlm"),
        *("tasks.clip.batch_size=4", f"tasks.clip.source={bad}", "tasks.more.batch_size=4"),
        *("tasks.more.source=/nowhere/a.tar", "tasks.mlm.heldout=/nowhere/b.tar"),
    )
    assert len(lines) == 4
    assert lines[0].startswith("source 'more': shards '/nowhere/a.tar' match nothing")
    assert lines[1].startswith("source 'mlm.heldout': shards '/nowhere/b.tar' match nothing")
    assert lines[2].startswith("task 'clip': 8 samples in a row cannot be used; the last is ")
    assert lines[3].startswith(f"checkpoints cannot be written to '{tmp_path}/run/checkpoints': ")
    assert not (tmp_path / "run/metrics.jsonl").exists()
    assert "match nothing" in json.loads((tmp_path / "run/ended.json").read_text())["cause"]


def test_a_step_that_cannot_be_computed_is_told_with_all_else(told, mlm, shards, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/checkpoints").write_text("in the way")
    pytest.importorskip("transformers")
    few = ["encoder@encoders.text=hf_bert", "encoders.text.max_tokens=null"]  # it does not say how many it takes
    few += ["encoders.text.module.config.max_position_embeddings=6"]
    arguments = mlm(shards("own"), *few)
    lines = told(*(one for one in arguments if one not in ("encoders.text.depth=1", "encoders.text.heads=2")))
    assert len(lines) == 2
    assert lines[0].startswith("task 'mlm': a step on 2 samples cannot be computed: ")
    assert lines[1].startswith(f"checkpoints cannot be written to '{tmp_path}/run/checkpoints': ")


def test_samples_are_tried_where_the_shards_are_sound(told, mlm, shards, tmp_path):
    lines = told(*mlm(shards("own", broken=range(23))))
    assert [line[:53] for line in lines] == ["task 'mlm': 8 samples in a row cannot be used; the la"]
    assert not (tmp_path / "run/starts.jsonl").exists()


def test_what_the_first_rank_finds_ends_all_of_them(mlm, shards):
    arguments = mlm(shards("own", broken=range(23)), "trainer.timeout_s=400")
    assert run_together(2, arguments, 100) == [2, 2]


def test_shards_that_a_manifest_names_are_asked_for(told, mlm, shards, tmp_path, capsys):
    shards("own", 60, max_bytes=10 * 1024)
    folder = tmp_path / "shards"
    found = sorted(folder.glob("*.tar"))
    assert len(found) >= 3
    listed = manifest(folder)
    assert main(mlm(listed)) == 0
    capsys.readouterr()
    found[-1].rename(tmp_path / "taken")
    (line,) = told(*mlm(listed, "max_steps=4"))
    assert line == f"source 'mlm': shard '{found[-1]}' cannot be read: No such file or directory"
    assert told("plan", *mlm(listed)) == []  # faults of a plan are what it prints
    assert json.loads((tmp_path / "run/ended.json").read_text())["state"] == "failed"
    (tmp_path / "taken").rename(found[-1])
    assert main(mlm(listed, "max_steps=4")) == 0


def test_a_shard_of_another_size_than_its_manifest_says(shards, tmp_path):
    shards("own")
    source = Source("own", manifest(tmp_path / "shards", bytes=77))
    with pytest.raises(InputError, match=r"^source 'own': shard '.*' has \d+ bytes, 77 by its manifest$"):
        source.reach(16)
    Source("own", manifest(tmp_path / "shards", bytes=-1)).reach(16)  # it does not say


def test_of_many_listed_shards_some_are_asked_for_first_and_last_among_them(tmp_path):
    rows = [{"shard": f"{n:03d}.tar", "samples": 1, "members": {"txt": 1}} for n in range(100)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=r"000.tar' cannot be read: .*; so it is with '.*033.tar', '.*066.tar', .*099"):
        Source("own", str(tmp_path / "m.jsonl")).reach(4)


def test_all_remote_shards_that_are_missing_are_named_in_one_line(shards, tmp_path, monkeypatch):
    shards("own", 60, max_bytes=5 * 1024)
    gone = sorted((tmp_path / "shards").glob("own-*.tar"))[2:10]
    last = max((tmp_path / "shards").glob("own-*.tar")).stem[4:]
    for path in gone:
        path.unlink()
    with FaultyStore(tmp_path / "shards", seed=0, share=0.0) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        for name, value in (("ALLOW_HTTP", "true"), ("REGION", "us-east-1"), ("SKIP_SIGNATURE", "true")):
            monkeypatch.setenv(f"AWS_{name}", value)
        store = Store(Cache(tmp_path / "cache"))
        with pytest.raises(InputError) as refused:
            Source("own", f"s3://box/own-{{000000..{last}}}.tar", store)
        store.close()
    (line,) = str(refused.value).splitlines()
    others = ", ".join(f"'s3://box/{path.name}'" for path in gone[1:5])
    assert line.startswith(f"source 'own': 's3://box/{gone[0].name}' does not exist: ")
    assert line.endswith(f"; so it is with {others}, 3 others")


def test_a_fault_is_told_once():
    faults = Faults()
    faults.tell()
    for text in ("a", "b\na", "c"):
        with faults.noted():
            raise InputError(text)
    assert faults
    with pytest.raises(InputError, match=r"^a\nb\nc$"):
        faults.tell()
    with pytest.raises(ZeroDivisionError), faults.noted():
        1 / 0  # noqa: B018


def test_a_cache_that_does_not_hold_what_is_mixed_is_said_before_the_first_step(mlm, shards, tmp_path, capsys):
    shards("own", 60, max_bytes=5 * 1024)
    for path in (tmp_path / "shards").glob("own-*.tar"):
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes(), 0))
    size = sum(path.stat().st_size for path in (tmp_path / "shards").glob("*.tar.gz"))
    packed = f"{tmp_path}/shards/*.tar.gz"
    cache = (f"cache.folder={tmp_path / 'cache'}", f"cache.max_size={size // 2}")
    assert main(mlm(packed, *cache)) == 0
    said = capsys.readouterr().err
    line = (
        f"shards that are mixed at a time take {decimal(size)} of the cache of a host, and cache.max_size={size // 2}: "
    )
    assert line in said
    window = re.search(r"give the run a larger cache\.max_size, or a new run order\.window=(\d+)\n", said)[1]
    assert main(["plan", *mlm(packed, *cache), "--tflops", "1", "--json"]) == 0
    assert any(one.startswith(line) for one in json.loads(capsys.readouterr().out)["remarks"])
    # What is proposed, a cache that holds all, and shards that need none.
    for source, *settings in (
        (packed, *cache, f"order.window={window}"),
        (packed, cache[0]),
        (f"{tmp_path}/shards/*.tar",),
    ):
        assert main(["plan", *mlm(source, *settings), "--tflops", "1", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["remarks"] == []


def test_what_hosts_share_and_what_tasks_share_is_counted_once(shards, tmp_path):
    pattern = shards("own", 60, max_bytes=5 * 1024)
    for path in (tmp_path / "shards").glob("own-*.tar"):
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes(), 0))
        path.unlink()
    store = Store(Cache(tmp_path / "cache"))
    one, two = (Stream(name, f"{pattern}.gz", 0, store=store) for name in ("one", "two"))
    size, count = int(one.sources[0].bytes.sum()), len(one.sources[0].urls)
    assert count > 8
    assert mixed_bytes([one, two], count, 4) == size
    assert mixed_bytes([one], 2, 1) == pytest.approx(size * 4 / count, abs=2)
    assert mixed_bytes([one], 2, 2) == pytest.approx(size * 2 / count, abs=2)
    assert mixed_bytes([one], count - 1, 1) == pytest.approx(size, abs=2)

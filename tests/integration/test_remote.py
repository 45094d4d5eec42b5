"""A run over shards in an object store that fails every fifth request, with a cache that holds a third of them."""

import json
import os
from pathlib import Path

import pytest

from data.stream import Stream
from pretrain import checkpoint
from tests.faulty_store import FaultyStore
from tests.integration.runs import SMALL, kill_at, run
from tests.pretrain.embedding import small

SHARDS = 16
CACHED = 6


@pytest.fixture
def endpoint(shards, tmp_path, monkeypatch):
    """Shards below tmp_path/shards, served with faults, and the AWS environment that points there."""
    shards("own", 20 * SHARDS, max_bytes=21 * 1024)
    held = sorted((tmp_path / "shards").glob("own-*.tar"))
    assert len(held) >= SHARDS
    with FaultyStore(tmp_path / "shards", seed=3, share=0.2) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        yield store, held


def arguments(run_dir, source, tokenizer_path, cache: Path, held, workers=2, *more):
    other = ("tasks.", "encoders.image", "encoders.audio", "loader", "data")
    small = [one for one in SMALL if not one.startswith(other)]
    return [
        "experiment=mlm_tiny",
        "data=shards",
        f"data.tokenizer={tokenizer_path}",
        f"data.train='{source}'",
        "data.heldout=null",
        "data.vocab_size=300",
        *small,
        "tasks.mlm.batch_size=16",
        "tasks.mlm.prepare.max_tokens=24",
        "max_steps=60",
        "checkpoint.every_n_steps=20",
        "order.window=4",
        "order.streams=2",
        f"loader.workers={workers}",
        "ledger=true",
        f"cache.folder={cache}",
        f"cache.max_size={CACHED * max(path.stat().st_size for path in held)}",
        f"run_dir={run_dir}",
        *more,
    ]


def cached(cache: Path) -> int:
    return sum(path.stat().st_size for path in cache.rglob("*") if path.is_file() and path.suffix != ".idx")


def test_remote_shards_with_faults_give_the_same_run_as_local_ones(endpoint, tmp_path, tokenizer_path):
    store, held = endpoint
    local, remote = tmp_path / "local", tmp_path / "remote"
    cache = tmp_path / "cache"
    assert run(arguments(local, f"{tmp_path}/shards/own-*.tar", tokenizer_path, cache, held)) == 0
    names = "{" + held[0].stem[4:] + ".." + held[-1].stem[4:] + "}"
    source = f"s3://noise/own-{names}.tar"
    # Ended by SIGKILL in the middle once, and continued.
    assert kill_at(arguments(remote, source, tokenizer_path, cache, held), remote, 30)
    assert run(arguments(remote, source, tokenizer_path, cache, held)) == 0
    digests = [checkpoint.digest(checkpoint.find(path)) for path in (remote, local)]
    assert digests[0] == digests[1]
    assert (remote / "metrics.jsonl").read_bytes() == (local / "metrics.jsonl").read_bytes()
    ledgers = [(path / "ledger" / "rank-00000.jsonl").read_text() for path in (local, remote)]
    assert ledgers[0] == ledgers[1]
    assert len(ledgers[0].splitlines()) == 60
    assert cached(cache) <= CACHED * max(path.stat().st_size for path in held)
    failed = [path for _, path, _ in store.requests]
    assert len(failed) > SHARDS
    assert os.environ["AWS_ENDPOINT_URL"] == store.url
    rows = [json.loads(line) for line in (remote / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["mlm/epoch"] == pytest.approx(60 * 16 / len(Stream("mlm", str(held[0].parent / "own-*.tar"), 0)))


@pytest.mark.slow
def test_embedding_remote_shards_with_faults_gives_what_local_ones_give(endpoint, tmp_path, tokenizer_path):
    store, held = endpoint
    small.run(tmp_path / "run", tokenizer_path)
    room = CACHED * max(path.stat().st_size for path in held)
    names = "{" + held[0].stem[4:] + ".." + held[-1].stem[4:] + "}"
    common = ["--encoder", "text", "--batch-size", "16", "--part-size", "64", "--threads", "1", "--quiet"]
    cached_at = ["--cache", str(tmp_path / "cache"), "--cache-size", str(room)]
    for out, source in (("local", f"{tmp_path}/shards/own-*.tar"), ("remote", f"s3://noise/own-{names}.tar")):
        assert run(["embed", str(tmp_path / "run"), source, "--out", str(tmp_path / out), *common, *cached_at]) == 0
    for number in range(len(list((tmp_path / "local").glob("*.npy")))):
        name = f"embeddings-{number:05d}"
        for kind in ("npy", "jsonl"):
            one, other = (tmp_path / out / f"{name}.{kind}" for out in ("local", "remote"))
            assert one.read_bytes() == other.read_bytes()
    assert cached(tmp_path / "cache") <= room
    # Read one after the other: once for the index, once for the samples, again after a fault, and never in circles.
    asked = [store.gets(f"/noise/{path.name}") for path in held]
    assert min(asked) > 0
    assert sum(asked) < 4 * len(held)

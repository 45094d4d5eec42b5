"""``pretrain shards`` over packed shards with a cache that holds one of them."""

import gzip
import json
import time

import pytest

from data.write import write
from pretrain.verbs.shards import main
from tests.conftest import png


@pytest.fixture
def packed(tmp_path):
    """Three packed shards of some pictures; one comes twice."""
    samples = [(f"s{n:03d}", {"png": png(n), "txt": bytes(3000).replace(b"\0", b"a")}) for n in range(60)]
    samples[59] = ("s059", samples[1][1])
    write(samples, tmp_path, "own", 130_000)
    plain = sorted(tmp_path.glob("own-*.tar"))
    assert len(plain) >= 3
    for path in plain:
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    return tmp_path, max(path.stat().st_size for path in plain)


VERBS = {
    "duplicates": ["check", "--duplicates", "--json"],
    "decode": ["check", "--decode", "--json"],
    "stats": ["stats", "--json"],
    "card": ["card", "--duplicates"],
}


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("verb", VERBS)
def test_a_cache_that_holds_one_shard(packed, capsys, verb, workers):
    folder, largest = packed
    said = []
    for name, size, count in (("large", 100 * largest, 0), ("small", largest * 3 // 2, workers)):
        for index in folder.glob("*.idx"):
            index.unlink()
        cache = ["--cache", str(folder / name), "--cache-size", str(size), "--workers", str(count)]
        first, *others = VERBS[verb]
        begin = time.monotonic()
        assert main([first, str(folder / "own-*.tar.gz"), *others, *cache]) == 0
        assert time.monotonic() - begin < 30
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    if verb == "duplicates":
        assert json.loads(said[0])["duplicates"]["count"] == 1

"""The texts of packed shards, for training a tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from data.shards import index


def texts(shards: Iterable[Path]) -> Iterator[str]:
    """The ``txt`` members of ``shards``, in order."""
    for shard in shards:
        places = index.load(shard)
        with open(shard, "rb") as file:
            for i in range(len(places)):
                offset, size = places.members(i).get("txt", (0, 0))
                file.seek(offset)
                if size:
                    yield file.read(size).decode("utf-8")

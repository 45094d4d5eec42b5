"""Whether the cache holds the shards that samples are drawn from at the same time. Imports no Lightning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from rich.filesize import decimal

from data.shards.source import Source
from data.stream import Stream

_LOOKED_AT = 1000
"""Shards of a source, evenly spread, whose sizes stand for all of them: a manifest may name a million."""


def remark(config: Mapping[str, Any], streams: Iterable[Stream]) -> str | None:
    """A line for a person if they do not fit, as then most samples wait for the transfer of a whole shard.

    Args:
        config: of the run, resolved.
        streams: of its tasks, those that could be opened.
    """
    streams = [stream for stream in streams if stream.ordering is not None]
    if not streams:
        return None
    hosts, window, room = config["trainer"]["num_nodes"], config["order"]["window"], streams[0].store.cache.max_size
    taken = mixed_bytes(streams, window, hosts)
    if taken <= room:
        return None
    smaller = min(window, max(len(source.urls) for stream in streams for source in stream.sources) - 1)
    while smaller > 1 and mixed_bytes(streams, smaller, hosts) > room:
        smaller //= 2
    fits = smaller > 0 and mixed_bytes(streams, smaller, hosts) <= room
    other = f", or a new run order.window={smaller}" if fits else ""
    return (
        f"shards that are mixed at a time take {decimal(taken)} of the cache of a host, and "
        f"cache.max_size={config['cache']['max_size']}: samples will wait again and again for the transfer of a "
        f"whole shard; give the run a larger cache.max_size{other}"
    )


def mixed_bytes(streams: Iterable[Stream], window: int, hosts: int) -> int:
    """Bytes of the cached shards that one of ``hosts`` hosts reads from at a time, as they are stored.

    All shards of a source of no more than ``window``, once for all tasks that share it; of others those of two windows,
    of which each host takes a part. Packed shards take more in the cache than is known before they are there.
    """
    total, shared = 0.0, set()
    for source in (source for stream in streams for source in stream.sources):
        share = 1.0
        if len(source.urls) > window:
            share = min(1.0, 2 * window / hosts / len(source.urls))
        elif tuple(source.urls) in shared:
            continue
        else:
            shared.add(tuple(source.urls))
        total += share * _cached_bytes(source)
    return int(total)


def _cached_bytes(source: Source) -> float:
    """Of the shards of ``source`` that are read from the cache; where a manifest says no size, the mean."""
    looked_at = np.unique(np.linspace(0, len(source.urls) - 1, min(_LOOKED_AT, len(source.urls))).astype(int))
    cached = np.array([source.store.cached(source.urls[shard]) for shard in looked_at])
    sizes = source.bytes[looked_at[cached]]
    known = sizes[sizes >= 0]
    return float(known.mean() * cached.mean() * len(source.urls)) if len(known) else 0.0

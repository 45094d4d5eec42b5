"""The shard lists that a run was made with, kept in its directory: so that a change of data can be named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from data.stream import Stream

Listing = list[tuple[str, int, int]]
_FOLDER = "shards"
_SHOWN = 3


def keep(run: Path, streams: Mapping[str, Stream]) -> None:
    """Writes each source's list, one line a shard: name, samples, bytes."""
    folder = run / _FOLDER
    folder.mkdir(exist_ok=True)
    for stream in streams.values():
        digests = stream.fingerprint()
        for source in stream.sources:
            path = folder / _file(source.name, digests[source.name])
            if not path.exists():
                partial = path.with_suffix(".part")
                partial.write_text(
                    "".join(f"{n}\t{c}\t{b}\n" for n, c, b in source.listing()), "utf-8", "surrogateescape"
                )
                partial.replace(path)


def kept(run: Path, source: str, digest: str) -> Listing | None:
    """The list of ``source`` whose fingerprint is ``digest``; None if the run does not have it."""
    path = run / _FOLDER / _file(source, digest)
    if not path.exists():
        return None
    rows = [line.rsplit("\t", 2) for line in path.read_text("utf-8", "surrogateescape").splitlines()]
    return [(name, int(samples), int(size)) for name, samples, size in rows]


def _file(source: str, digest: str) -> str:
    return f"{source}-{digest[:12]}.tsv"


def difference(old: Listing, new: Listing) -> str:
    """What sets two shard lists apart, in words, with the first names of each kind."""
    before, after = Counter(name for name, *_ in old), Counter(name for name, *_ in new)
    facts = [{name: rest for name, *rest in listing} for listing in (old, new)]
    changed = [
        f"{name} had {_size(facts[0][name])} and has {_size(facts[1][name])}"
        for name in sorted(before.keys() & after.keys())
        if before[name] == after[name] == 1 and facts[0][name] != facts[1][name]
    ]
    kinds = (
        ("new", sorted((after - before).elements())),
        ("missing", sorted((before - after).elements())),
        ("changed", changed),
    )
    words = []
    for what, names in kinds:
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            words.append(f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{more})")
    return ", ".join(words) or "the same shards in another order"


def _size(fact: list[int]) -> str:
    return f"{fact[0]} samples in {fact[1]} bytes"

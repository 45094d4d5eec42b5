"""What a run's data is, kept in its directory as ``card.json`` for the report, which reads no shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import SampleError
from data.sample import Sample
from data.shards.source import Source
from data.stream import Stream
from data.survey.stats import Stats
from modalities.prepare import Prepare, Sides
from pretrain.checkpoint.disk import replace
from pretrain.redaction import redacted

NAME = "card.json"
MEASURED = 48
"""Samples of a source, evenly spread, by which what all of them hold is estimated. Of remote ones none is read."""


def keep(run: Path, streams: Mapping[str, Stream], prepares: Mapping[str, Prepare]) -> None:
    """Writes ``card.json``, unless it speaks of these very shards already.

    Args:
        run: its directory.
        streams: task -> its stream.
        prepares: task -> what says which members it reads.

    Raises:
        OSError: the disk does not take it.
        RunError: a remote shard cannot be had.
    """
    known = {(one["name"], one["fingerprint"]): one for one in read(run)}
    found = []
    for task, stream in streams.items():
        for source in stream.sources:
            old = known.get((source.name, source.fingerprint()))
            found.append(old or _entry(source, stream.remote, prepares[task]))
        stream.close()  # opened again where it is read; workers that begin now hold nothing of it
    content = json.dumps({"sources": redacted(found)}, indent=1) + "\n"
    path = run / NAME
    if not path.exists() or path.read_text(encoding="utf-8") != content:
        replace(path, content.encode())


def read(run: Path) -> list[dict[str, Any]]:
    """The sources that the file names; see :func:`keep`. None where there is no file, or it is damaged."""
    try:
        found = json.loads((run / NAME).read_text(encoding="utf-8"))["sources"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    sound = isinstance(found, list) and all(
        isinstance(one, dict) and {"name", "fingerprint"} <= set(one) for one in found
    )
    return found if sound else []


def _entry(source: Source, remote: bool, prepare: Prepare) -> dict[str, Any]:
    known = source.bytes >= 0
    entry: dict[str, Any] = {
        "name": source.name,
        "fingerprint": source.fingerprint(),
        "pattern": source.pattern if isinstance(source.pattern, str) else "::".join(source.pattern),
        "shards": len(source.urls),
        "samples": len(source),
        "bytes": int(source.bytes[known].sum()) if known.all() else None,
    }
    if remote:
        return entry
    stats = Stats(_tokens(prepare))
    wanted = {extension for group in prepare.needs.values() for extension in group} | {"json"}
    for number in np.unique(np.linspace(0, len(source) - 1, MEASURED).astype(int)).tolist():
        try:
            sample = source.read(number)
        except SampleError:
            continue  # the run tells of it when it comes to it
        stats.add(Sample(sample.shard, sample.key, {k: v for k, v in sample.members.items() if k in wanted}))
    return entry | _measured(stats, len(source))


def _measured(stats: Stats, samples: int) -> dict[str, Any]:
    """``measured`` samples, and what all would come to: ``seconds``, ``characters``, ``tokens``, ``pictures``."""

    def whole(totals: Iterable[float]) -> int:
        return round(sum(totals) * samples / max(1, stats.samples))

    found = {
        "seconds": whole(sound.seconds.total for sound in stats.sounds.values()),
        "characters": whole(text.characters.total for text in stats.texts.values()),
        "tokens": whole(text.tokens.total for text in stats.texts.values()),
        "pictures": whole(picture.width.count for picture in stats.pictures.values()),
    }
    about = {"languages": dict(stats.languages.most_common(20)), "licences": dict(stats.licences.most_common(5))}
    return {"measured": stats.samples} | {name: value for name, value in (found | about).items() if value}


def _tokens(prepare: Prepare) -> Callable[[str], int] | None:
    """How many tokens a text has, where texts are prepared."""
    parts = prepare.sides.values() if isinstance(prepare, Sides) else [prepare]
    for part in parts:
        tokenizer = getattr(part, "tokenizer", None)
        if tokenizer is not None:
            return lambda text: len(tokenizer.encode(text))
    return None

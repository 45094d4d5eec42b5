"""``pretrain shards index``: indexes and a manifest, so that a run over very many shards begins at once."""

from __future__ import annotations

import argparse
import json
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

from data.errors import InputError

DESCRIPTION = (
    "Makes the index of each shard, beside it or, for a remote one, in the cache. With --manifest also the list of "
    "them, with what each holds: given as the source, a run reads this file and touches no shard before it needs it."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    from pretrain.verbs import options

    options.add_pattern(parser)
    parser.add_argument(
        "--manifest",
        metavar="FILE.jsonl",
        type=Path,
        help="write one; shards below its folder get relative names",
    )
    options.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Makes what is not there, and prints how much there is.

    Raises:
        InputError: a shard cannot be read, or the manifest cannot be written.
    """
    from data.shards import entry
    from data.shards.pattern import MANIFEST, expand
    from pretrain.verbs import crew, options, report, survey

    target: Path | None = arguments.manifest.expanduser() if arguments.manifest else None
    if target is not None and target.suffix != MANIFEST:
        raise InputError(f"--manifest '{target}' must end in {MANIFEST}: a pattern that ends so is read as a manifest")
    if target is not None and not target.parent.is_dir():
        raise InputError(f"--manifest '{target}' cannot be written: there is no folder '{target.parent}'")
    workers, store = options.workers_of(arguments), options.store_of(arguments)
    urls = expand(arguments.pattern, store).urls
    samples = size = 0
    members: Counter[str] = Counter()
    damaged, empty = {}, []

    def lines() -> Iterator[str]:
        nonlocal samples, size
        for url, (summary, token) in crew.work(survey.Indexing(store), urls, workers, "indexing", len(urls)):
            samples += summary.samples
            size += summary.bytes
            members.update(summary.members)
            if summary.damage:
                damaged[url] = list(summary.damage)
            if summary.samples:
                yield entry.line(entry.name_in(target.parent, url), summary, token) if target else ""
            else:
                empty.append(url)

    if target is None:
        deque(lines(), maxlen=0)
    else:
        try:
            entry.write(target, lines())
        except OSError as error:
            raise InputError(f"--manifest '{target}' cannot be written: {error.strerror}") from None
    found = {
        "shards": len(urls),
        "samples": samples,
        "bytes": size,
        "members": dict(members.most_common()),
        "damaged": damaged,
        "empty": empty,
        "manifest": str(target) if target else None,
    }
    if arguments.json:
        print(json.dumps(found))
    else:
        report.show_index(found)
    return 1 if damaged or empty else 0

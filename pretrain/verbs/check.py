"""``pretrain shards check``: what shards hold, whether they are whole, and what in them could not be used."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data.store.store import Store
    from data.survey.check import Report, ShardCheck

DESCRIPTION = (
    "Says what shards hold. Wrong, and so exit code 1: damage, shards that cannot be read at all, and samples that "
    "cannot be decoded. Remarked upon: "
    "samples without a member that most have, several samples of a key, and samples of the same content."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    from pretrain.verbs import options

    options.add_pattern(parser)
    add = parser.add_argument
    add("--duplicates", action="store_true", help="compare contents: reads everything")
    add("--decode", action="store_true", help="decode every picture, recording, text, label and JSON member")
    add("--max-pixels", metavar="N", type=int, default=64_000_000, help="larger pictures are bad (default: 64000000)")
    add("--sample-rate", metavar="HZ", type=int, default=16000, help="recordings must fit it (default: 16000)")
    add("--min-seconds", metavar="S", type=float, default=0.25, help="shorter recordings are bad (default: 0.25)")
    options.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Checks, and prints what was found.

    Raises:
        InputError: nothing matches, or the cache that is needed cannot be written.
        RunError: a remote shard cannot be had.
    """
    from data.errors import InputError
    from data.shards.pattern import expand
    from data.survey import check, repeats
    from pretrain.verbs import crew, options, tables

    if arguments.max_pixels < 1:
        raise InputError(f"--max-pixels {arguments.max_pixels} is not 1 or more")
    if arguments.sample_rate < 1:
        raise InputError(f"--sample-rate {arguments.sample_rate} is not 1 or more")
    if not arguments.min_seconds >= 0:
        raise InputError(f"--min-seconds {arguments.min_seconds} is not 0 or more")
    workers, store = options.workers_of(arguments), options.store_of(arguments)
    listed = expand(arguments.pattern, store)
    urls = listed.urls
    if any(map(store.cached, urls)):
        store.cache.prepare()  # what is wrong with it is no fault of a shard
    shards = [found for _, found in crew.work(_Checking(store), urls, workers, "checking headers", len(urls))]
    for number, shard in enumerate(shards):
        shard.compare(listed.known(number))
    keys = repeats.find([shard.keys for shard in shards], across=True)
    report = check.Report(shards, keys, [_key(store, urls[place], n) for (place, n), *_ in keys.groups])
    if arguments.duplicates or arguments.decode:
        _read(report, arguments, store, workers)
    if arguments.json:
        print(json.dumps(report.as_json()))
    else:
        tables.show_check(report)
    return 1 if report.wrong else 0


class _Checking:
    def __init__(self, store: Store) -> None:
        self.store = store

    def __call__(self, url: str) -> ShardCheck:
        from data.errors import CacheError, InputError
        from data.survey.check import ShardCheck, check

        try:
            return check(url, self.store)
        except CacheError:
            raise
        except InputError as error:  # the others are worth a look all the same
            return ShardCheck(url, 0, 0, {}, damage=[str(error)])


def _key(store: Store, url: str, number: int) -> str:
    from pretrain.verbs.survey import Shards

    return Shards(store).source(url).identity(number)[1]


def _read(report: Report, arguments: argparse.Namespace, store: Store, workers: int) -> None:
    """Reads all samples, as training does, and adds what is found to ``report``."""
    from data.survey import repeats
    from pretrain.verbs import comparing, survey

    decoding = None
    if arguments.decode:
        from pretrain.verbs.decoding import Decoding

        decoding = Decoding(arguments.max_pixels, arguments.sample_rate, arguments.min_seconds)
    urls, counts = [shard.shard for shard in report.shards], [shard.samples for shard in report.shards]
    digests, report.bad = comparing.read(urls, counts, store, workers, decoding)
    report.decoded = sum(counts) if arguments.decode else 0
    if arguments.duplicates:
        report.duplicates, shards = repeats.find(digests), survey.Shards(store)
        report.duplicate_examples = [
            [shards.source(urls[place]).identity(number) for place, number in group[:4]]
            for group in report.duplicates.groups
        ]

"""``pretrain shards stats``: how much there is, and how large, long and of which kind it is."""

from __future__ import annotations

import argparse
import json

DESCRIPTION = (
    "Counts and measures samples: sizes of members, widths and heights of pictures, durations and sampling rates of "
    "recordings (all from headers), lengths of texts, languages (from a json member) and labels (cls)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    from pretrain.verbs import options

    options.add_pattern(parser)
    options.add_measures(parser)
    options.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures, and prints what was found.

    Raises:
        InputError: a shard cannot be read, or an argument does not fit.
    """
    from data.shards.pattern import expand
    from data.survey.spread import Spread
    from pretrain.verbs import measuring, options, report, survey

    workers, store = options.workers_of(arguments), options.store_of(arguments)
    shards = expand(arguments.pattern, store)
    samples, sizes, counts, damaged = Spread(), Spread(), [], []
    for url, summary in zip(shards.urls, survey.summaries(shards, store, workers), strict=True):
        counts.append(summary.samples)
        samples.add(summary.samples)
        sizes.add(summary.bytes)
        damaged += [url] if summary.damage else []
    found = measuring.measure(shards.urls, counts, store, workers, arguments)
    if arguments.json:
        whole = {"shards": len(counts), "samples": sum(counts), "bytes": sizes.total, "damaged": damaged}
        whole |= {"samples_per_shard": samples.as_json(), "bytes_per_shard": sizes.as_json()}
        print(json.dumps(whole | found.as_json()))
    else:
        report.show_stats(found, samples, sizes, damaged)
    return 0

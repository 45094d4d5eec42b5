"""Measures the samples of shards in several processes; see :class:`data.survey.stats.Stats`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from data.errors import InputError, SampleError
from data.store import held
from data.store.store import Store
from data.survey.stats import LANGUAGE_FIELDS, Stats
from pretrain.verbs import crew, survey


class Measuring:
    """Measures a chunk."""

    def __init__(self, store: Store, tokenizer: str | None, language_field: str | None) -> None:
        self.shards = survey.Shards(store)
        self.language_fields = LANGUAGE_FIELDS if language_field is None else (language_field,)
        self.tokens: Callable[[str], int] | None = None
        if tokenizer is not None:
            from modalities.text.tokenizer import TextTokenizer

            known = TextTokenizer(tokenizer)
            self.tokens = lambda text: len(known.encode(text))
            self.tokens("")  # says now what is wrong with the file

    @held.during_work()
    def __call__(self, chunk: survey.Chunk) -> Stats:
        """The measures of the chunk's samples."""
        found, source = Stats(self.tokens, self.language_fields), self.shards.source(chunk.url)
        for number in chunk.numbers:
            try:
                found.add(source.read(number))
            except SampleError as error:
                found.leave(str(error), *source.identity(number))
        return found


def measure(
    urls: Sequence[str], counts: Sequence[int], store: Store, workers: int, arguments: argparse.Namespace
) -> Stats:
    """Measures the samples of ``urls``, or as many as ``--samples`` says, evenly spread.

    Raises:
        InputError: the tokenizer or ``--samples`` is no such thing.
    """
    if arguments.samples is not None and arguments.samples < 1:
        raise InputError(f"--samples {arguments.samples} is not 1 or more")
    measuring = Measuring(store, arguments.tokenizer, arguments.language_field)
    total = len(range(0, sum(counts), survey.stride(sum(counts), arguments.samples)))
    found = Stats()
    units = survey.chunks(urls, counts, arguments.samples)
    for _, part in crew.work(measuring, units, workers, "measuring", total, lambda unit: unit.size):
        found.merge(part)
    return found

"""Reads all samples of shards, as training does: digests of their contents, and what cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from data.errors import SampleError
from data.sample import Sample
from data.store import held
from data.store.store import Store
from data.survey.repeats import DIGEST, content_digest, digest_of
from pretrain.verbs import crew, survey

if TYPE_CHECKING:
    from pretrain.verbs.decoding import Decoding


class Found(NamedTuple):
    """What reading a chunk brought to light: the digest of each sample, and the members that cannot be used."""

    digests: bytes
    bad: list[dict[str, str]]


class Reading:
    """Reads a chunk; with ``decoding`` decodes it too."""

    def __init__(self, store: Store, decoding: Decoding | None) -> None:
        self.shards, self.decoding = survey.Shards(store), decoding

    @held.during_work()
    def __call__(self, chunk: survey.Chunk) -> Found:
        """See :class:`Found`."""
        source, digests, bad = self.shards.source(chunk.url), [], []
        for number in chunk.numbers:
            try:
                sample = source.read(number)
            except SampleError as error:
                shard, key = source.identity(number)
                bad.append({"shard": shard, "key": key, "member": "", "reason": str(error)})
                url = chunk.url.encode("utf-8", "surrogateescape")
                digests.append(digest_of([url, number.to_bytes(8, "little")]))  # like no other
                continue
            digests.append(content_digest(sample.members))
            bad += self._faults(sample)
        return Found(b"".join(digests), bad)

    def _faults(self, sample: Sample) -> list[dict[str, str]]:
        found = self.decoding.faults(sample) if self.decoding is not None else []
        return [{"shard": sample.shard, "key": sample.key, "member": m, "reason": reason} for m, reason in found]


def read(
    urls: Sequence[str], counts: Sequence[int], store: Store, workers: int, decoding: Decoding | None = None
) -> tuple[list[bytes], list[dict[str, str]]]:
    """(digests of each shard's samples, members that cannot be used)."""
    place = {url: number for number, url in enumerate(urls)}
    digests = [bytearray() for _ in urls]
    bad: list[dict[str, str]] = []
    title = "comparing contents" if decoding is None else "decoding"
    units = survey.chunks(urls, counts)
    for chunk, found in crew.work(Reading(store, decoding), units, workers, title, sum(counts), lambda unit: unit.size):
        digests[place[chunk.url]] += found.digests
        bad += found.bad
    assert all(len(part) == DIGEST * count for part, count in zip(digests, counts, strict=True))
    return [bytes(part) for part in digests], bad


def digests(urls: Sequence[str], counts: Sequence[int], store: Store, workers: int) -> list[bytes]:
    """Digests of the contents of each shard's samples."""
    return read(urls, counts, store, workers)[0]

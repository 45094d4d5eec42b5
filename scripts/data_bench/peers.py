"""The peers, each as its own documentation sets it up: shuffled, batched, in torch's worker processes."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from data_bench.kinds import Kind

BUFFER = 1000  # webdataset's shuffle, in samples


class Loader:
    """A loader over one kind of data.

    Args:
        kind, data: what to read.
        collate: list of samples -> batch.
        workers: processes.

    Attributes:
        needs: the package that it stands on.
        format: which folder of the data it reads.
        endless: it goes on after an epoch without a seam.
    """

    needs: ClassVar[str]
    format: ClassVar[str]
    endless: ClassVar[bool] = False

    def __init__(self, kind: Kind, data: Path, collate: Callable[[Any], Any], workers: int) -> None:
        self.kind, self.collate, self.workers = kind, collate, workers
        self.root = kind.folder(data) / self.format

    def open(self) -> Iterator[Any]:
        """Batches of one epoch, or for ever."""
        self.loader = self.build()
        return iter(self.loader)

    def build(self) -> Any:
        """A fresh loader at the beginning of an epoch."""
        raise NotImplementedError

    def state(self, batches: int) -> Any:
        """What to save after ``batches`` batches."""
        return self.loader.state_dict()

    def resume(self, state: Any) -> Iterator[Any]:
        """Batches from there on, in a fresh loader."""
        self.loader = self.build()
        self.loader.load_state_dict(state)
        return iter(self.loader)

    def close(self) -> None:
        """Lets go of the loader; its workers end with it."""
        self.loader = None

    def size(self, batch: Any) -> int:
        """Samples in a batch."""
        return batch["size"]

    def key(self, batch: Any) -> tuple[int, ...]:
        """The numbers of its samples; of the lists form."""
        return tuple(int(text[:8]) for text in batch["txt"])


class WebDataset(Loader):
    """Tars read in sequence; shards shuffled, samples in a buffer. Without a state: it resumes by replaying."""

    needs, format, endless = "webdataset", "tar", True
    passes = 200

    def build(self) -> Any:
        import webdataset

        # Many passes in one, so that the buffer, once full, stays full: the steady state of a long run.
        shards = sorted(map(str, self.root.glob("*.tar")))
        stream = webdataset.WebDataset(shards * self.passes, shardshuffle=len(shards), seed=0, empty_check=False)
        stream = stream.shuffle(BUFFER, initial=BUFFER, rng=random.Random(0))
        stream = stream.batched(self.kind.batch, collation_fn=self.collate)
        return webdataset.WebLoader(stream, batch_size=None, num_workers=self.workers)

    def state(self, batches: int) -> int:
        return batches

    def resume(self, state: int) -> Iterator[Any]:
        batches = self.open()
        for _ in range(state):
            next(batches)
        return batches


class Streaming(Loader):
    """mosaicml-streaming over MDS shards, its default shuffle."""

    needs, format = "streaming", "mds"

    def build(self) -> Any:
        from streaming import StreamingDataLoader, StreamingDataset

        stream = StreamingDataset(
            local=str(self.root), shuffle=True, shuffle_seed=0, batch_size=self.kind.batch, num_canonical_nodes=1
        )
        return StreamingDataLoader(
            stream, batch_size=self.kind.batch, num_workers=self.workers, collate_fn=self.collate
        )


class LitData(Loader):
    """litdata over its own chunks, shuffled."""

    needs, format = "litdata", "litdata"

    def build(self) -> Any:
        import litdata

        stream = litdata.StreamingDataset(str(self.root), shuffle=True, seed=0, drop_last=False)
        return litdata.StreamingDataLoader(
            stream, batch_size=self.kind.batch, num_workers=self.workers, collate_fn=self.collate
        )


class Arrow(Loader):
    """Hugging Face datasets (Arrow files, memory-mapped) in a random order, with torchdata's stateful loader."""

    needs, format = "datasets", "arrow"

    def build(self) -> Any:
        import torch
        from datasets import load_from_disk
        from torchdata.stateful_dataloader import StatefulDataLoader
        from torchdata.stateful_dataloader.sampler import RandomSampler

        rows = load_from_disk(str(self.root))
        sampler = RandomSampler(rows, generator=torch.Generator().manual_seed(0))
        return StatefulDataLoader(
            rows, batch_size=self.kind.batch, sampler=sampler, num_workers=self.workers, collate_fn=self.collate
        )


PEERS: dict[str, type[Loader]] = {"webdataset": WebDataset, "streaming": Streaming, "litdata": LitData, "arrow": Arrow}


def installed() -> list[str]:
    """The peers whose package is there."""
    return [name for name, peer in PEERS.items() if importlib.util.find_spec(peer.needs)]

"""Our side: a StepLoader over a Stream of the tar folder, in each form that the peers are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from data_bench.decoding import IMAGE_SIZE, Decode, Lists
from data_bench.kinds import Kind
from data_bench.peers import Loader

from data.loading.loader import StepBatch, StepLoader, TaskData
from data.loading.raw import RawPrepare
from data.order.order import Ordering
from data.sample import Sample
from data.stream import Stream

ENDLESS = 1_000_000_000


class Same:
    """What the peers do, as a prepare: undecoded members or the shared decode function, in a dict of lists."""

    def __init__(self, kind: Kind, collate: Lists) -> None:
        self.needs = {"text": ("txt",)} | ({kind.name: (kind.field,)} if kind.field else {})
        self.collate = collate

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> dict[str, Any]:
        return sample.members


def own_prepare(kind: Kind, tokenizer: Path) -> Any:
    """The prepare class with which a training run reads this kind."""
    from modalities.audio.prepare import AudioPrepare
    from modalities.image.prepare import ImagePrepare
    from modalities.text.prepare import TextPrepare

    if kind.name == "image":
        return ImagePrepare(IMAGE_SIZE, scale=(0.5, 1.0))
    return TextPrepare(str(tokenizer), max_tokens=100_000) if kind.name == "text" else AudioPrepare()


class Ours(Loader):
    """Positions of the stream, prepared by ``collate``: here a prepare object."""

    needs, format, endless = "data", "tar", True
    ordering = Ordering()

    def _open(self, step: int) -> Iterator[StepBatch]:
        stream = Stream("bench", str(self.root), seed=0, ordering=self.ordering)
        task = TaskData(stream, self.collate, self.kind.batch, position=step * self.kind.batch)  # type: ignore[arg-type]
        self.loader = StepLoader({"bench": task}, step, ENDLESS, workers=self.workers)
        return iter(self.loader)

    def open(self) -> Iterator[StepBatch]:
        return self._open(0)

    def state(self, batches: int) -> int:
        return batches

    def resume(self, state: int) -> Iterator[StepBatch]:
        return self._open(state)

    def close(self) -> None:
        self.loader.close()

    def size(self, batch: StepBatch) -> int:
        return batch.count

    def key(self, batch: StepBatch) -> tuple[int, ...]:
        return tuple(
            batch.places["bench"][:, 1].tolist()
        )  # shards are written in order: the number is the sample's own


def prepare_of(form: str, kind: Kind, tokenizer: Path) -> Any:
    """What makes each form: block, views, lists, decoded (the shared function) or own (our prepare classes)."""
    if form in ("block", "views"):
        return RawPrepare(["txt", *([kind.field] if kind.field else [])], views=form == "views")
    if form == "own":
        return own_prepare(kind, tokenizer)
    return Same(kind, Lists(kind.field, Decode(kind.name, tokenizer).ready() if form == "decoded" else None))

"""Makes the parts of a folder of embeddings that are not there yet; any number of processes, each for itself."""

from __future__ import annotations

import fcntl
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import numpy as np

from data.errors import InputError, RunError
from data.loading.loader import StepBatch, TaskData
from data.loading.once import OnceLoader
from data.stream import Place, Stream
from pretrain.checkpoint.disk import make, replace
from pretrain.devices import moved
from pretrain.embedding import parts
from pretrain.embedding.extract import Extractor
from pretrain.embedding.recipe import RECIPE, Recipe, check_same, read
from pretrain.lease import Lease

COMPLETE = "complete.json"
SHARES = ".shares"
SAY_EVERY_S = 10.0


class Job:
    """One process's share of the parts: number ``rank``, ``rank + world_size``, ... of all.

    Which samples are computed together follows from the recipe alone. So a part is the same, bit for bit, whichever
    process makes it and however often it was begun.

    Args:
        recipe: what is made.
        folder: where; another start of the same recipe goes on with what is there.
        rank, world_size: of this process.

    Raises:
        InputError: the folder holds something else, or another process does this share.
    """

    def __init__(self, recipe: Recipe, folder: Path, rank: int = 0, world_size: int = 1) -> None:
        self.recipe, self.folder, self.rank, self.world_size = recipe, folder, rank, world_size
        share = folder / SHARES / f"{rank}-of-{world_size}"
        try:
            make(share)
            self._lease = self._leased(share)
            with self._alone():
                self._begin()
        except OSError as error:
            raise InputError(f"--out '{folder}' cannot be written: {error.strerror}") from None

    def _leased(self, share: Path) -> Lease:
        try:
            return Lease(share, str(share))
        except InputError:
            raise InputError(
                f"--out '{self.folder}': another process is at share {self.rank} of {self.world_size}; end it first"
            ) from None

    def _begin(self) -> None:
        there = read(self.folder)
        if there is not None:
            check_same(there, self.recipe, self.folder)
        elif any(not one.name.startswith(".") for one in self.folder.iterdir()):
            raise InputError(f"--out '{self.folder}' is no folder of embeddings (it has no {RECIPE}) and not empty")
        else:
            replace(self.folder / RECIPE, self.recipe.as_json())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process is at what is common to all shares meanwhile."""
        with open(self.folder / SHARES / "common", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def missing(self) -> list[int]:
        """Parts of all shares that are not there yet."""
        kind = self.recipe.format
        return [n for n in range(self.recipe.parts) if not parts.paths(self.folder, n, kind)[0].exists()]

    def run(self, stream: Stream, prepare: Any, extractor: Extractor, workers: int) -> int:
        """Makes what is missing of this share; returns how many samples that were.

        Raises:
            RunError: the disk does not take a part, or a loader worker died.
            InputError: the data is at fault.
        """
        own = [number for number in self.missing() if number % self.world_size == self.rank]
        batches = Batches(self.recipe, own)
        data = TaskData(stream, prepare, self.recipe.batch_size)
        device = next(extractor.encoder.parameters()).device
        loader = OnceLoader(data, batches, workers, pin_memory=device.type == "cuda")
        rows: list[parts.Row] = []
        vectors: list[np.ndarray] = []
        said, done = time.monotonic(), 0
        began = said
        for number, batch in enumerate(loader):
            rows += self._rows(stream, batch)
            (inputs,) = batch.tasks[stream.task]
            if inputs:
                vectors.append(extractor(moved(inputs, device)).cpu().numpy())
            done += len(batches[number])
            part, last = batches.part(number)
            if last:
                self._write(part, vectors, rows)
                rows, vectors = [], []
            if time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                rate = done / (said - began)
                print(f"rank {self.rank}: {done:,} samples, {rate:,.0f} a second", file=sys.stderr, flush=True)
        return done

    def _rows(self, stream: Stream, batch: StepBatch) -> list[parts.Row]:
        found = []
        for source, number in batch.places[stream.task].tolist():
            shard, key = stream.identity(Place(source, 0, number))
            found.append({"number": number, "key": key, "shard": shard})
        for one in batch.rejected:
            found.append({"number": one.position, "key": one.key, "shard": one.shard, "left_out": one.reason})
        return sorted(found, key=lambda row: row["number"])

    def _write(self, part: int, vectors: list[np.ndarray], rows: list[parts.Row]) -> None:
        whole = np.concatenate(vectors) if vectors else np.empty((0, self.recipe.width), np.float32)
        try:
            parts.write(self.folder, part, self.recipe.format, whole.astype(self.recipe.dtype), rows)
        except OSError as error:
            raise RunError(
                f"'{self.folder}' does not take part {part}: {error.strerror}; make room, and the same command goes on"
            ) from None

    def finish(self) -> dict[str, int] | None:
        """Writes :data:`COMPLETE` if all parts of all shares are there; returns what it says, None if not."""
        if self.missing():
            return None
        kept = left_out = 0
        for number in range(self.recipe.parts):
            _, rows = parts.read(self.folder, number, self.recipe.format)
            without = sum("left_out" in row for row in rows)
            kept, left_out = kept + len(rows) - without, left_out + without
        found = {"samples": kept, "left_out": left_out, "parts": self.recipe.parts}
        with self._alone():
            replace(self.folder / COMPLETE, (json.dumps(found) + "\n").encode())
        return found


class Batches(Sequence[range]):
    """The batches of some parts, one part after the other; none reaches into another part."""

    def __init__(self, recipe: Recipe, numbers: Sequence[int]) -> None:
        self._recipe, self._numbers = recipe, numbers
        self._each = -(-recipe.part_size // recipe.batch_size)
        last = -(-len(recipe.part(numbers[-1])) // recipe.batch_size) if numbers else 0
        self._count = (len(numbers) - 1) * self._each + last if numbers else 0

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, number: int) -> range: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[range]: ...
    def __getitem__(self, number: int | slice) -> range | Sequence[range]:
        """The samples of batch ``number``."""
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not 0 <= number < self._count:
            raise IndexError(number)
        part, inner = divmod(number, self._each)
        begin = inner * self._recipe.batch_size
        return self._recipe.part(self._numbers[part])[begin : begin + self._recipe.batch_size]

    def part(self, number: int) -> tuple[int, bool]:
        """(which part batch ``number`` is of, whether it is its last)."""
        part, inner = divmod(number, self._each)
        return self._numbers[part], inner == self._each - 1 or number == self._count - 1

"""A source: a named list of shards whose samples are read in any order."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data import index
from data.errors import InputError, SampleError
from data.pattern import expand
from data.sample import Sample

_OPEN_FILES = 64


class Source:
    """The samples of some shards, numbered shard after shard.

    Args:
        name: for messages and metrics.
        pattern: paths, globs, brace expressions, ``::`` joins or a folder; see :func:`data.pattern.expand`.

    Raises:
        InputError: nothing matches, or a shard is empty, breaks off or cannot be read.
    """

    def __init__(self, name: str, pattern: str | Sequence[str]) -> None:
        self.name = name
        self.pattern = pattern
        try:
            paths = expand(pattern if isinstance(pattern, str) else list(pattern))
        except InputError as error:
            raise InputError(f"source '{name}': {error}") from None
        self.shards = [index.load(path) for path in paths]
        for shard in self.shards:
            if len(shard) == 0:
                raise InputError(
                    f"source '{name}': shard '{shard.path}' is empty" + (f" ({shard.damage})" * bool(shard.damage))
                )
            if shard.damage:  # to go on with what is left would be to train on less data than was named
                raise InputError(
                    f"source '{name}': shard '{shard.path}' is damaged ({shard.damage}); {len(shard)} of its samples "
                    "are still readable; repair it or leave it out ('pretrain shards check' says which are whole)"
                )
        self._ends = np.cumsum([len(shard) for shard in self.shards])
        self._files: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_files": OrderedDict()}  # file descriptors belong to the process that opened them

    def place(self, number: int) -> tuple[index.ShardIndex, int]:
        """The shard of sample ``number``, and its number there."""
        shard = int(np.searchsorted(self._ends, number, side="right"))
        return self.shards[shard], number - (int(self._ends[shard - 1]) if shard else 0)

    def identity(self, number: int) -> tuple[str, str]:
        """(shard base name, key) of sample ``number``."""
        shard, inner = self.place(number)
        return os.path.basename(shard.path), shard.keys[inner]

    def read(self, number: int) -> Sample:
        """Sample ``number``, undecoded.

        Raises:
            SampleError: its bytes cannot be read, or not all of them.
        """
        shard_number = int(np.searchsorted(self._ends, number, side="right"))
        shard, inner = self.place(number)
        members = {}
        try:
            file = self._file(shard_number, shard.path)
            for extension, (offset, size) in shard.members(inner).items():
                members[extension] = os.pread(file, size, offset)
                if len(members[extension]) != size:
                    raise SampleError(f"member {extension} breaks off: the shard is shorter than when it was opened")
        except OSError as error:
            raise SampleError(f"shard cannot be read: {error.strerror}") from None
        return Sample(os.path.basename(shard.path), shard.keys[inner], members)

    def _file(self, number: int, path: str) -> int:
        if number in self._files:
            self._files.move_to_end(number)
            return self._files[number]
        while len(self._files) >= _OPEN_FILES:
            os.close(self._files.popitem(last=False)[1])
        self._files[number] = os.open(path, os.O_RDONLY)
        return self._files[number]

    def require(self, needs: Mapping[str, tuple[str, ...]]) -> None:
        """Checks against the indexes that every sample has one of the extensions of each need.

        Raises:
            InputError: naming a sample that lacks one, and what it has.
        """
        for what, wanted in needs.items():
            for shard in self.shards:
                lacking = shard.lacking(wanted)
                if len(lacking):
                    first = int(lacking[0])
                    raise InputError(
                        f"source '{self.name}': {len(lacking)} of {len(shard)} samples of '{shard.path}' "
                        f"have no {what} member ({'|'.join(wanted)}); "
                        f"'{shard.keys[first]}' has: {', '.join(sorted(shard.members(first)))}"
                    )

    def fingerprint(self) -> str:
        """SHA-256 over the names, sample counts and sizes of the shards, in order: what an order is made of."""
        text = "\n".join(f"{Path(s.path).name}\t{len(s)}\t{s.tar_bytes}" for s in self.shards)
        return hashlib.sha256(text.encode()).hexdigest()

"""Loose files as samples: a stream of them, beside those of shards."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.errors import InputError, SampleError, choices, unlisted
from data.sample import Sample
from data.store.store import Store
from data.stream import Place, Stream


class _Files:
    """What messages about a slow or dead worker ask of a source: each file is a shard of one sample."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.urls = [str(path) for path in paths]

    def place(self, number: int) -> tuple[int, int]:
        """(which file, 0)."""
        return number, 0


class FileStream(Stream):
    """Files as they lie in folders, sorted by name: each is a sample of one member.

    Its key is the path below the folder that was named, extension included, so that ``a.jpg`` and ``a.png`` are two.

    Args:
        task: see :class:`data.stream.Stream`.
        places: files, and folders that are searched to the bottom.
        extensions: of the files that are wanted; of a folder's others, and of links to nowhere, nothing is said.

    Raises:
        InputError: a place is not there, a named file is of another kind, a folder cannot be read, or nothing is found.
    """

    def __init__(self, task: str, places: Sequence[str], extensions: Sequence[str]) -> None:
        self.task, self.seed, self.store = task, 0, Store()
        self.paths: list[Path] = []
        self.keys: list[str] = []
        for place in places:
            self._add(Path(place).expanduser(), place, extensions)
        if not self.paths:
            raise InputError(f"'{', '.join(map(str, places))}' holds no file of a kind wanted: {', '.join(extensions)}")
        self.sources = [_Files(self.paths)]  # type: ignore[list-item]

    def _add(self, path: Path, given: str, extensions: Sequence[str]) -> None:
        if path.is_file():
            if _extension(path) not in extensions:
                raise InputError(
                    f"file '{given}' is of a kind not wanted here; {choices(_extension(path), extensions)}"
                )
            found, root = [path], path.parent
        elif path.is_dir():
            found = [Path(folder, name) for folder, _, names in os.walk(path, onerror=unlisted) for name in names]
            found, root = sorted(one for one in found if _extension(one) in extensions and one.is_file()), path
        else:
            raise InputError(f"'{given}' is no file and no folder")
        self.paths += found
        self.keys += [one.relative_to(root).as_posix() for one in found]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def remote(self) -> bool:
        """Never."""
        return False

    @property
    def pinning(self) -> bool:
        """Never."""
        return False

    def locate(self, positions: np.ndarray) -> list[Place]:
        """The file at each position."""
        return [Place(0, 0, int(number)) for number in positions]

    def read(self, place: Place) -> Sample:
        """The file at ``place`` as a sample.

        Raises:
            SampleError: it cannot be read.
        """
        path = self.paths[place.number]
        try:
            return Sample(path.parent.name, self.keys[place.number], {_extension(path): path.read_bytes()})
        except OSError as error:
            raise SampleError(f"file cannot be read: {error.strerror}", "unreadable") from None

    def identity(self, place: Place) -> tuple[str, str]:
        """(name of its folder, key)."""
        return self.paths[place.number].parent.name, self.keys[place.number]

    def fingerprint(self) -> dict[str, str]:
        """A digest of names and sizes."""
        digest = hashlib.sha256()
        for key, path in zip(self.keys, self.paths, strict=True):
            digest.update(f"{key}\t{_size(path)}\n".encode("utf-8", "surrogateescape"))
        return {self.task: digest.hexdigest()}

    def close(self) -> None:
        """Nothing is kept open."""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone since it was listed; reading it says so
        return -1


def _extension(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")

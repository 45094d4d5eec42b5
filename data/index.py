"""The index of a shard: where each member of each sample lies, so that samples are read in any order.

It is made on first touch by a walk over the tar's headers and kept beside the shard as ``NAME.tar.idx``, tied to the
tar's size and modification time. Where the folder cannot be written the index is made anew in each process.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.errors import InputError
from data.tarwalk import DamagedTar, walk

SUFFIX = ".idx"
_FORMAT = 2


@dataclass(frozen=True)
class ShardIndex:
    """N samples with M members in all, sample by sample.

    Attributes:
        path: the tar file.
        keys: N sample keys, in the order of the tar.
        first: (N + 1,) int64; the members of sample i are ``first[i]:first[i + 1]``.
        extension: (M,) uint32 into ``extensions``.
        extensions: the distinct extensions of the shard.
        offset: (M,) int64, byte position of each member's content.
        size: (M,) int64, bytes.
        damage: why the tar breaks off, "" if it is whole.
        tar_bytes: size of the tar file, bytes.
    """

    path: str
    keys: list[str]
    first: np.ndarray
    extension: np.ndarray
    extensions: list[str]
    offset: np.ndarray
    size: np.ndarray
    damage: str
    tar_bytes: int

    def __len__(self) -> int:
        return len(self.keys)

    def members(self, i: int) -> dict[str, tuple[int, int]]:
        """Extension -> (offset, size) of sample ``i``."""
        span = range(int(self.first[i]), int(self.first[i + 1]))
        return {self.extensions[self.extension[m]]: (int(self.offset[m]), int(self.size[m])) for m in span}

    def lacking(self, wanted: tuple[str, ...]) -> np.ndarray:
        """Numbers of the samples that have none of the extensions ``wanted``, int64."""
        numbers = [n for n, extension in enumerate(self.extensions) if extension in wanted]
        hits = np.concatenate(([0], np.cumsum(np.isin(self.extension, numbers))))
        return np.flatnonzero(hits[self.first[1:]] == hits[self.first[:-1]])


def split_name(name: str) -> tuple[str, str]:
    """(key, extension) of a member by WebDataset's rule: the extension begins at the first dot of the base name."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower()


def scan(path: str | os.PathLike[str]) -> ShardIndex:
    """Builds the index of the tar at ``path`` from its headers; members that share a key make one sample."""
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    damage = ""
    try:
        for name, offset, size in walk(path):
            key, extension = split_name(name.removeprefix("./"))
            base = key.rpartition("/")[2]
            if not base or not extension:  # a dot file (macOS resource forks too) or a name without extension
                continue
            samples.setdefault(key, {})[extension] = (offset, size)
    except DamagedTar as error:
        damage = str(error)
    extensions = sorted({extension for members in samples.values() for extension in members})
    number = {extension: n for n, extension in enumerate(extensions)}
    counts = [len(members) for members in samples.values()]
    flat = [(number[e], *place) for members in samples.values() for e, place in members.items()]
    columns = np.array(flat, dtype=np.int64).reshape(-1, 3)
    return ShardIndex(
        path=os.fspath(path),
        keys=list(samples),
        first=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        extension=columns[:, 0].astype(np.uint32),
        extensions=extensions,
        offset=columns[:, 1].copy(),
        size=columns[:, 2].copy(),
        damage=damage,
        tar_bytes=os.path.getsize(path),
    )


def _stamp(path: str) -> list[int]:
    stat = os.stat(path)
    return [_FORMAT, stat.st_size, stat.st_mtime_ns]


def save(index: ShardIndex, stamp: list[int]) -> None:
    """Writes ``index`` beside its shard, by rename so that no reader sees half of it.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    # A name in a tar may hold anything but NUL, line ends too.
    names = "\0".join([index.damage, str(len(index.extensions)), *index.extensions, *index.keys])
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        stamp=np.array(stamp, dtype=np.int64),
        first=index.first,
        extension=index.extension,
        offset=index.offset,
        size=index.size,
        names=np.frombuffer(names.encode("utf-8", "surrogateescape"), dtype=np.uint8),
    )
    target = Path(index.path + SUFFIX)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            file.write(buffer.getvalue())
            file.flush()
            os.chmod(file.name, 0o644)
            os.replace(file.name, target)
        except OSError:
            os.unlink(file.name)
            raise


def load(path: str | os.PathLike[str]) -> ShardIndex:
    """The index of the tar at ``path``, from beside it or made anew.

    Raises:
        InputError: the shard cannot be read.
    """
    path = os.fspath(path)
    try:
        stamp = _stamp(path)
    except OSError as error:
        raise InputError(f"shard '{path}' cannot be read: {error.strerror}") from None
    found = _stored(path, stamp)
    if found is not None:
        return found
    try:
        index = scan(path)
    except OSError as error:
        raise InputError(f"shard '{path}' cannot be read: {error.strerror}") from None
    with contextlib.suppress(OSError):  # a read-only folder or a full disk costs the next process a walk, no more
        save(index, stamp)
    return index


def _stored(path: str, stamp: list[int]) -> ShardIndex | None:
    try:
        with np.load(path + SUFFIX, allow_pickle=False) as stored:
            if stored["stamp"].tolist() != stamp:
                return None
            names = stored["names"].tobytes().decode("utf-8", "surrogateescape").split("\0")
            keys = 2 + int(names[1])
            columns = {name: stored[name] for name in ("first", "extension", "offset", "size")}
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile, zlib.error):
        return None  # no index yet, or a damaged one: it is made anew
    return ShardIndex(
        path=path, keys=names[keys:], extensions=names[2:keys], damage=names[0], tar_bytes=stamp[1], **columns
    )

"""Writes shards: samples in, numbered WebDataset tars with their indexes out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import webdataset

from data.shards import index
from data.shards.tarwalk import BLOCK

Members = Mapping[str, bytes]


@dataclass
class Written:
    """What a call of :func:`write` left behind."""

    shards: list[Path] = field(default_factory=list)
    samples: int = 0
    bytes: int = 0


def write(
    samples: Iterable[tuple[str, Members]],
    directory: str | os.PathLike[str],
    prefix: str,
    max_bytes: int = 256 * 2**20,
) -> Written:
    """Writes ``samples`` as ``directory/prefix-000000.tar`` and so on, each with its index.

    The same samples give the same bytes: members carry no time, owner or machine. A shard is complete or absent: it is
    written beside its name, flushed to disk and renamed.

    Args:
        samples: (key, members) pairs; members map an extension to bytes. Keys are unique.
        directory: where the shards go; made if missing.
        prefix: what the file names begin with.
        max_bytes: a new shard begins before a sample that would grow the current tar file beyond this (up to the
            padding at its end, at most 10 KiB).
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    done = Written()
    current: Shard | None = None
    for key, members in samples:
        size = sum(len(value) for value in members.values())
        if current is None or current.tar_bytes + tar_bytes(members) > max_bytes:
            if current is not None:
                current.close()
            current = Shard(directory / f"{prefix}-{len(done.shards):06d}.tar")
            done.shards.append(current.path)
        current.add(key, members)
        done.samples += 1
        done.bytes += size
    if current is not None:
        current.close()
    return done


def tar_bytes(members: Members) -> int:
    """What a sample takes up in a tar: a header a member, and contents in whole blocks."""
    return sum(BLOCK + -(-len(content) // BLOCK) * BLOCK for content in members.values())


class Shard:
    """One shard being written, under a name that no pattern matches until :meth:`close`.

    Attributes:
        path: what it will be called.
        tar_bytes: its size so far, the two empty blocks at its end included.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tar_bytes = 2 * BLOCK
        self._partial = path.with_name(f".{path.name}.part")
        self._stream = open(self._partial, "wb")  # noqa: SIM115 - closed by close()
        self._tar = webdataset.TarWriter(self._stream, mtime=0, user="", group="", encoder=False, keep_meta=True)

    def add(self, key: str, members: Members) -> None:
        """Writes one sample.

        Raises:
            ValueError: a key without a base name or with a dot in it, which readers would take for another key.
        """
        base = key.rpartition("/")[2]
        if not base or "." in base:
            raise ValueError(f"key '{key}' must have a base name without dots: a sample's key ends at the first one")
        self._tar.write({"__key__": key, **members})
        self.tar_bytes += tar_bytes(members)

    def abandon(self) -> None:
        """Closes it without a name; what a full disk does not take of it any more is not missed."""
        for part in (self._tar, self._stream):
            with contextlib.suppress(OSError, ValueError):
                part.close()

    def close(self) -> None:
        """Completes the shard, flushes it to disk, gives it its name and makes its index."""
        self._tar.close()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        os.replace(self._partial, self.path)
        index.load(self.path)

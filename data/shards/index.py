"""Indexes of shards: made on first touch by a walk over the tar's headers, and kept where the store says.

A stored index is tied to a stamp, the size and version of the shard: when the shard changes, it is made anew.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from data.errors import InputError
from data.shards import indexfile
from data.shards.membername import split_name
from data.shards.scan import scan_file
from data.shards.shardindex import ShardIndex
from data.shards.summary import Summary
from data.store.store import Stamp, Store
from data.store.url import shown

__all__ = [
    "SUFFIX",
    "ShardIndex",
    "Stamp",
    "Summary",
    "load",
    "make",
    "of",
    "scan",
    "split_name",
    "stored",
    "summary_of",
]

SUFFIX = ".idx"


def _text(stamp: Stamp) -> str:
    return f"{stamp.bytes} {stamp.token}"


def beside(path: str | os.PathLike[str]) -> Path:
    """Where the index of a local shard is kept."""
    return Path(f"{os.fspath(path)}{SUFFIX}")


def scan(file: int | str | os.PathLike[str], note: str = "", size: int | None = None) -> ShardIndex:
    """The index of a tar (path or open descriptor), from its headers; see :func:`data.shards.scan.scan_file`.

    Args:
        file: the plain tar.
        note: damage that was found before the tar could be walked.
        size: bytes of the shard as it is stored, if it is stored otherwise.

    Raises:
        OSError: it cannot be read.
    """
    if isinstance(file, int):
        return scan_file(file, os.fstat(file).st_size if size is None else size, note)
    with open(file, "rb") as opened:
        return scan(opened.fileno(), note, size)


def stored(stamp: Stamp, places: Iterable[Path]) -> ShardIndex | None:
    """The first sound index of ``places`` that has this stamp."""
    return next((found for place in places if (found := indexfile.read(place, _text(stamp))) is not None), None)


def summary(stamp: Stamp, places: Iterable[Path]) -> Summary | None:
    """The summary of the first index of ``places`` that has this stamp, by a small read."""
    return next((found for place in places if (found := indexfile.read_summary(place, _text(stamp)))), None)


def make(file: int | str | os.PathLike[str], stamp: Stamp, places: Iterable[Path], note: str = "") -> ShardIndex:
    """Scans the tar and stores its index at the first of ``places`` that can be written; if none can, nowhere.

    Raises:
        OSError: the tar cannot be read.
    """
    index = scan(file, note, stamp.bytes)
    content = indexfile.encode(index, _text(stamp))
    for place in places:
        with contextlib.suppress(OSError):  # a read-only folder or a full disk costs the next process a walk, no more
            indexfile.write(place, content)
            break
    return index


def load(path: str | os.PathLike[str], stamp: Stamp | None = None, places: Iterable[Path] | None = None) -> ShardIndex:
    """The index of the local tar at ``path``, stored or made anew.

    Args:
        path: the plain tar.
        stamp: what tells this version of it; by default size and modification time.
        places: where an index may be kept; by default beside it.

    Raises:
        InputError: the shard cannot be read.
    """
    places = [beside(path)] if places is None else list(places)
    try:
        if stamp is None:
            stat = os.stat(path)
            stamp = Stamp(stat.st_size, str(stat.st_mtime_ns))
        found = stored(stamp, places)
        return make(path, stamp, places) if found is None else found
    except OSError as error:
        raise InputError(f"shard '{os.fspath(path)}' cannot be read: {error.strerror}") from None


def of(url: str, store: Store) -> ShardIndex:
    """The index of a shard wherever it is: stored, or made anew, for which the whole shard is fetched.

    Raises:
        InputError: the shard cannot be read.
        RunError: it cannot be had.
    """
    stamp, places = store.stamp(url), store.index_places(url)
    found = stored(stamp, places)
    return _fetched(url, store, stamp, places) if found is None else found


def summary_of(url: str, store: Store) -> tuple[Summary, Stamp]:
    """What :func:`of` says of the shard in short, by a small read where its index is stored."""
    stamp, places = store.stamp(url), store.index_places(url)
    found = summary(stamp, places)
    return found or _fetched(url, store, stamp, places).summary, stamp


def _fetched(url: str, store: Store, stamp: Stamp, places: list[Path]) -> ShardIndex:
    file = store.fetch(url)
    try:
        return make(file, stamp, places, store.note(url))
    except OSError as error:
        raise InputError(f"shard '{shown(url)}' cannot be read: {error.strerror}") from None
    finally:
        os.close(file)

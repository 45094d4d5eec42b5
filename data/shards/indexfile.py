"""The index of a shard as a file: a short head with the summary, then the columns, a few bytes a sample.

::

    8 bytes   b"shardix3"
    4         bytes of the summary
    4         CRC-32 of the summary
    8         bytes of the columns
    4         CRC-32 of the columns
    ...       the summary, JSON: stamp, samples, bytes, members, damage, extensions, types and lengths of the columns
    ...       the columns, zlib: instead of positions what cannot be told from the members before; bytes of equal
              significance side by side
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from data.shards.scan import folded, smallest
from data.shards.shardindex import ShardIndex
from data.shards.summary import Summary
from data.shards.tarheader import BLOCK

_MAGIC = b"shardix3"
_HEAD = struct.Struct("<8sIIQI")
_BEGIN = 4096
_COLUMNS = ("first", "extension", "run", "size", "step", "again", "doubtful")


def _planes(column: np.ndarray) -> bytes:
    return column.view(np.uint8).reshape(len(column), column.itemsize).T.tobytes()


def _places(size: np.ndarray, run: np.ndarray) -> np.ndarray:
    """Block of each content if every member followed the one before; int64."""
    length = run.astype(np.int64)
    length[1:] += (size[:-1].astype(np.int64) + BLOCK - 1) // BLOCK
    return np.cumsum(length)


def restamped(content: bytes, size: int, token: str) -> bytes | None:
    """An index file for the version ``token`` of the shard; None if it is of a shard that has not ``size`` bytes.

    An index that was made of a local shard and uploaded with it knows that one's time of change, and no etag.
    """
    if len(content) < _HEAD.size:
        return None
    magic, length, crc, rest, rest_crc = _HEAD.unpack_from(content)
    text, columns = content[_HEAD.size : _HEAD.size + length], content[_HEAD.size + length :]
    if magic != _MAGIC or zlib.crc32(text) != crc or len(columns) != rest:
        return None
    said = json.loads(text)
    if int(said["stamp"].partition(" ")[0]) != size:
        return None
    text = json.dumps(said | {"stamp": f"{size} {token}"}).encode()
    return _HEAD.pack(magic, len(text), zlib.crc32(text), rest, rest_crc) + text + columns


def encode(index: ShardIndex, stamp: str) -> bytes:
    """The file of ``index``."""
    members = len(index.block)
    extension, run = (np.resize(column, members) for column in (index.extension, index.run))  # unfolded
    order = np.argsort(extension, kind="stable")
    columns = {
        "first": index.first if index.first is not None else np.empty(0, np.uint8),
        "extension": extension,
        "run": run,
        "size": index.size[order],  # contents of a kind have sizes of a kind
        "step": np.diff(index.block.astype(np.int64) - _places(index.size, run), prepend=0),
        "again": index.again.reshape(-1),
        "doubtful": index.doubtful,
    }
    columns["first"] = smallest(np.diff(columns["first"].astype(np.int64)))
    payload = zlib.compress(b"".join(_planes(np.ascontiguousarray(columns[name])) for name in _COLUMNS), 6)
    summary = index.summary
    head = {
        "stamp": stamp,
        "samples": summary.samples,
        "bytes": summary.bytes,
        "members": summary.members,
        "damage": summary.damage,
        "extensions": index.extensions,
        "width": index.width,
        "columns": [(columns[name].dtype.str, len(columns[name])) for name in _COLUMNS],
    }
    text = json.dumps(head).encode()
    return _HEAD.pack(_MAGIC, len(text), zlib.crc32(text), len(payload), zlib.crc32(payload)) + text + payload


def _head(file: Any, stamp: str) -> tuple[dict[str, Any], int, int] | None:
    """The parsed head, bytes and CRC of the columns; None if it is none or of another version of the shard."""
    begin = file.read(_BEGIN)
    if len(begin) < _HEAD.size:
        return None
    magic, length, crc, rest, rest_crc = _HEAD.unpack_from(begin)
    if magic != _MAGIC or _HEAD.size + length + rest != os.fstat(file.fileno()).st_size:
        return None
    text = begin[_HEAD.size : _HEAD.size + length]
    if len(text) < length:
        text += file.read(length - len(text))
    if zlib.crc32(text) != crc:
        return None
    head = json.loads(text)
    file.seek(_HEAD.size + length)
    return (head, rest, rest_crc) if head["stamp"] == stamp else None


def _summary(head: dict[str, Any]) -> Summary:
    return Summary(head["samples"], head["bytes"], head["members"], tuple(head["damage"]))


def read_summary(path: Path, stamp: str) -> Summary | None:
    """The summary alone, in one small read; None if there is no sound index of that stamp."""
    try:
        with open(path, "rb", buffering=0) as file:
            found = _head(file, stamp)
    except OSError:
        return None
    return _summary(found[0]) if found else None


def read(path: Path, stamp: str) -> ShardIndex | None:
    """The index; None if there is no sound one of that stamp."""
    try:
        with open(path, "rb") as file:
            found = _head(file, stamp)
            if found is None:
                return None
            head, length, crc = found
            payload = file.read(length)
    except OSError:
        return None
    if len(payload) != length or zlib.crc32(payload) != crc:
        return None
    raw, at, columns = zlib.decompress(payload), 0, {}
    for name, (kind, count) in zip(_COLUMNS, head["columns"], strict=True):
        dtype = np.dtype(kind)
        end = at + count * dtype.itemsize
        planes = np.frombuffer(raw[at:end], np.uint8).reshape(dtype.itemsize, count)
        columns[name], at = np.ascontiguousarray(planes.T).reshape(-1).view(dtype), end
    size = np.empty_like(columns["size"])
    size[np.argsort(columns["extension"], kind="stable")] = columns["size"]
    block = np.cumsum(columns["step"]) + _places(size, columns["run"])
    widths = columns["first"].astype(np.int64)
    return ShardIndex(
        summary=_summary(head),
        extensions=tuple(head["extensions"]),
        width=head["width"],
        first=None if head["width"] else smallest(np.concatenate(([0], np.cumsum(widths)))),
        block=smallest(block),
        size=size,
        extension=folded(columns["extension"], head["width"]),
        run=folded(columns["run"], head["width"]),
        again=columns["again"].reshape(-1, 2),
        doubtful=columns["doubtful"],
    )


def write(path: Path, content: bytes) -> None:
    """Writes by rename, so that no reader sees half of an index.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except OSError:
            os.unlink(file.name)
            raise

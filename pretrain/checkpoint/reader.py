"""Tensors out of a checkpoint, whole or in part, however many processes wrote them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pretrain.checkpoint.disk import regular_size
from pretrain.checkpoint.folder import INDEX, NAME, STATE, directory_name
from pretrain.checkpoint.manifest import Damaged, natural, read_json, verify
from pretrain.checkpoint.plan import KINDS
from pretrain.checkpoint.tensorfile import NAMED


@dataclass(frozen=True)
class Part:
    """Where a box of a tensor lies: ``file``, and ``offset`` and ``shape`` within the whole tensor."""

    file: str
    offset: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """A tensor of a checkpoint: its type, its whole shape, and the parts that it is made of."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    parts: tuple[Part, ...]


class Reader:
    """A published checkpoint, of which only what is asked for is read.

    Args:
        path: its folder.
        verified: compare every byte with the manifest first; False where another process has just done it.

    Attributes:
        path: its folder.
        state: JSON values; see :class:`pretrain.checkpoint.content.Content`.

    Raises:
        Damaged: it is not what was published, or says what no checkpoint says.
    """

    def __init__(self, path: Path, verified: bool = True) -> None:
        self.path = path
        if verified:
            verify(path)
        self._files: dict[str, Any] = {}
        try:
            self._room = sum(regular_size(path / name) for name in os.listdir(path))
            self.state = _checked(read_json(path / STATE))
            if NAME.fullmatch(path.name) and path.name != directory_name(self.step):
                raise ValueError(f"{STATE} is that of step {self.step}")
            divided = read_json(path / INDEX) if (path / INDEX).exists() else {}
            self._entries = {kind: self._kind(kind, divided.get(kind)) for kind in KINDS}
            if verified:
                self._compare()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise Damaged(f"unreadable although its digests are right: {error!r:.200}") from None

    @property
    def step(self) -> int:
        """Optimizer updates done."""
        return int(self.state["step"])

    def shapes(self, kind: str) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the whole tensor, of ``model``, ``optimizer`` or ``ema``; empty where there is none."""
        return {name: entry.shape for name, entry in self._entries[kind].items()}

    def tensor(
        self, kind: str, name: str, offset: tuple[int, ...] | None = None, shape: tuple[int, ...] | None = None
    ) -> Tensor:
        """A tensor on the host, or the box of it that begins at ``offset`` and has ``shape``.

        Raises:
            KeyError: there is none of that name.
            ValueError: the box is not within the tensor.
            Damaged: its file does not hold what the index says.
        """
        entry = self._entries[kind][name]
        offset = offset if offset is not None else (0,) * len(entry.shape)
        shape = shape if shape is not None else entry.shape
        if not _within(offset, shape, entry.shape):
            raise ValueError(f"{shape} from {offset} on is not within '{name}' of shape {entry.shape}")
        try:
            if len(entry.parts) == 1 and shape == entry.shape:
                return self._whole(entry, entry.parts[0], name)
            box = torch.empty(shape, dtype=entry.dtype)
            for part in entry.parts:
                self._fill(box, offset, entry, part, name)
        except (OSError, SafetensorError) as error:
            raise Damaged(f"unreadable although its digests are right: {error!r:.200}") from None
        return box

    def tensors(self, kind: str) -> dict[str, Tensor]:
        """All tensors of a kind, whole."""
        return {name: self.tensor(kind, name) for name in self._entries[kind]}

    def _compare(self) -> None:
        """Whether all files can be opened and hold what the index says; none of their data is read."""
        for entries in self._entries.values():
            for name, entry in entries.items():
                for part in entry.parts:
                    self._slice(entry, part, name)

    def _slice(self, entry: Entry, part: Part, name: str) -> Any:
        source = self._open(part.file).get_slice(name)
        if tuple(source.get_shape()) != part.shape or NAMED.get(source.get_dtype()) != entry.dtype:
            raise Damaged(f"{part.file} holds '{name}' in another shape or type than the index says")
        return source

    def _whole(self, entry: Entry, part: Part, name: str) -> Tensor:
        self._slice(entry, part, name)
        tensor: Tensor = self._open(part.file).get_tensor(name)
        return tensor

    def _fill(self, box: Tensor, offset: tuple[int, ...], entry: Entry, part: Part, name: str) -> None:
        """Copies what ``part`` has of the box that begins at ``offset``."""
        starts = [max(o, p) for o, p in zip(offset, part.offset, strict=True)]
        ends = [min(o + n, p + m) for o, n, p, m in zip(offset, box.shape, part.offset, part.shape, strict=True)]
        if any(start >= end for start, end in zip(starts, ends, strict=True)):
            return
        if not starts:  # a number has no slices
            box.copy_(self._whole(entry, part, name))
            return
        source = self._slice(entry, part, name)
        there = tuple(slice(s - p, e - p) for s, e, p in zip(starts, ends, part.offset, strict=True))
        here = tuple(slice(s - o, e - o) for s, e, o in zip(starts, ends, offset, strict=True))
        box[here] = source[there]

    def _open(self, file: str) -> Any:
        if file not in self._files:
            self._files[file] = safe_open(self.path / file, framework="pt")
        return self._files[file]

    def _kind(self, kind: str, divided: Mapping[str, Any] | None) -> dict[str, Entry]:
        if divided is not None:
            return {str(name): _entry(kind, entry, self._room) for name, entry in divided.items()}
        file = f"{kind}.safetensors"
        if not (self.path / file).exists():
            if kind == "ema":
                return {}
            raise ValueError(f"{file} is missing")
        opened, entries = self._open(file), {}
        for name in opened.keys():  # noqa: SIM118 - no mapping
            found = opened.get_slice(name)
            shape = tuple(found.get_shape())
            entries[name] = Entry(NAMED[found.get_dtype()], shape, (Part(file, (0,) * len(shape), shape),))
        return entries


def _checked(state: Any) -> dict[str, Any]:
    if not isinstance(state, dict):
        raise ValueError(f"{STATE} holds no values with names")
    natural(state["step"])
    for position in state["positions"].values():
        natural(position)
    return state


def _within(offset: tuple[int, ...], shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    if not len(offset) == len(shape) == len(whole):
        return False
    return all(o >= 0 and n >= 0 and o + n <= w for o, n, w in zip(offset, shape, whole, strict=True))


def _entry(kind: str, found: Mapping[str, Any], room: int) -> Entry:
    """An entry of the index, whose parts must make up the whole tensor, each value once.

    Args:
        kind: of the tensor.
        found: the entry.
        room: bytes of all files together; nothing larger can be among them.
    """
    shape, dtype = tuple(natural(n) for n in found["shape"]), NAMED[found["dtype"]]
    if len(shape) > 64 or prod(shape) * dtype.itemsize > room:
        raise ValueError("a tensor is larger than the files that hold it")
    parts = []
    for piece in found["pieces"]:
        file = piece["file"]
        if not isinstance(file, str) or "/" in file or not file.startswith(f"{kind}-"):
            raise ValueError(f"{file!r:.60} is no file of {kind}")
        part = Part(file, tuple(natural(n) for n in piece["offset"]), tuple(natural(n) for n in piece["shape"]))
        if not _within(part.offset, part.shape, shape):
            raise ValueError("a piece lies outside its tensor")
        parts.append(part)
    parts.sort(key=lambda part: part.offset)
    rows = all(part.shape[1:] == shape[1:] for part in parts)  # only neighbours can then overlap
    # Disjoint and of the right number together is the same as complete.
    if any(_overlap(*pair) for pair in (pairwise(parts) if rows else combinations(parts, 2))):
        raise ValueError("two pieces of a tensor overlap")
    if sum(prod(part.shape) for part in parts) != prod(shape):
        raise ValueError("the pieces of a tensor do not make it up")
    return Entry(dtype, shape, tuple(parts))


def _overlap(one: Part, other: Part) -> bool:
    pairs = zip(one.offset, one.shape, other.offset, other.shape, strict=True)
    return all(a < b + m and b < a + n for a, n, b, m in pairs)

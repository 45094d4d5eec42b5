"""Micro-batches from a worker process to the trainer: one block of shared memory each, whatever they hold.

Torch's own way opens and maps a file for each tensor. Here the tensors and arrays of a micro-batch are laid one after
the other into memory that is used again and again, and the trainer computes with them there, or takes them out with a
single copy. The memory is an anonymous file, so the small /dev/shm of a container is no limit.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import tempfile
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch

_ALIGN = 64
Spans: TypeAlias = list[tuple[int, int]]  # (first byte, number of bytes) of each tensor or array


# A dtype by its number: pickled by name it would have to be looked up in the module.
_DTYPES = tuple(found for name in sorted(vars(torch)) if isinstance(found := getattr(torch, name), torch.dtype))
_NUMBERS = {dtype: number for number, dtype in reversed(list(enumerate(_DTYPES)))}
# Numpy knows these too. Its calls take half the time of torch's, and a micro-batch may be many small tensors.
_KNOWN = {torch.float32, torch.int64, torch.uint8, torch.bool, torch.int32, torch.float64, torch.float16}


class _Packer(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.parts: list[np.ndarray] = []

    def reducer_override(self, value: Any) -> Any:
        """Takes tensors and arrays out: (which part, type, shape). Not asked about numbers, texts and lists."""
        kind = type(value)
        if kind is torch.Tensor:
            if value.dtype in _KNOWN and not value.requires_grad:
                self.parts.append(np.ascontiguousarray(value.numpy()).reshape(-1).view(np.uint8))
            else:
                self.parts.append(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
            return _part, (len(self.parts) - 1, _NUMBERS[value.dtype], *value.shape)
        if kind is np.ndarray and value.dtype.kind in "biufc":
            self.parts.append(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
            return _part, (len(self.parts) - 1, value.dtype.str, *value.shape)
        return NotImplemented


def _part(number: int, dtype: int | str, *shape: int) -> Any:
    """Stands for :class:`_Parts` in what is packed."""
    raise TypeError("what was packed is to be unpacked with its memory")


class _Parts:
    """The tensors and arrays that were taken out, where their bytes lie in memory."""

    def __init__(self, buffer: torch.Tensor, spans: Spans) -> None:
        self.buffer, self.memory, self.spans = buffer, buffer.numpy(), spans
        self._as: dict[int, tuple[torch.Tensor, int]] = {}  # dtype -> all of the memory as such, bytes of one

    def __call__(self, number: int, dtype: int | str, *shape: int) -> Any:
        begin, size = self.spans[number]
        if isinstance(dtype, str):
            return np.ndarray(shape, dtype, self.memory, begin)
        # Views of one tensor: what was allocated as pinned stays known as such to those who copy from it.
        whole, each = self._as.get(dtype) or self._whole(dtype)
        part = whole[begin // each : (begin + size) // each]
        return part if len(shape) == 1 else part.view(shape)

    def _whole(self, dtype: int) -> tuple[torch.Tensor, int]:
        each = _DTYPES[dtype].itemsize
        self._as[dtype] = self.buffer[: len(self.buffer) // each * each].view(_DTYPES[dtype]), each
        return self._as[dtype]


class _Unpacker(pickle.Unpickler):
    def __init__(self, described: bytes, buffer: torch.Tensor, spans: Spans) -> None:
        super().__init__(io.BytesIO(described))
        self._parts = _Parts(buffer, spans)  # not a method of this: its memo would keep all of it in a circle

    def find_class(self, module: str, name: str) -> Any:
        if (found := _known.get((module, name))) is None:
            found = _known[module, name] = super().find_class(module, name)
        return self._parts if found is _part else found


_known: dict[tuple[str, str], Any] = {}  # what an unpickler looks up by name, in every micro-batch the same


class Slab:
    """Memory that this process and those forked from it share; it grows as needed."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._file = os.memfd_create("pretrain-loader", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                self._file = os.dup(file.fileno())
        self._maps: list[tuple[np.ndarray, int]] = []  # each with its address; the last is of the whole file

    def memory(self, size: int) -> np.ndarray:
        """(size,) uint8 of it, always from its begin; another process that grew it must have done so before."""
        if not self._maps or len(self._maps[-1][0]) < size:
            # Pages that nobody touches cost nothing, so there is room for larger micro-batches.
            room = max(os.fstat(self._file).st_size, mmap.PAGESIZE, 1 << (size - 1).bit_length())
            os.ftruncate(self._file, room)
            whole = np.frombuffer(mmap.mmap(self._file, room), dtype=np.uint8)
            self._maps.append((whole, _address(whole)))
        return self._maps[-1][0][:size]

    def clear(self) -> None:
        """Nothing in it is needed any more."""
        del self._maps[:-1]

    def place(self, part: np.ndarray) -> int | None:
        """Where in it ``part`` lies, bytes; None if that is elsewhere."""
        begin = _address(part)
        for whole, address in self._maps:
            if len(part) and address <= begin <= address + len(whole) - len(part):
                return begin - address
        return None

    def close(self) -> None:
        """Gives the memory back when the other processes have, too."""
        if self._file >= 0:
            os.close(self._file)
            self._file, self._maps = -1, []


def _address(part: np.ndarray) -> int:
    found: int = part.__array_interface__["data"][0]
    return found


class Packed:
    """Any object with its tensors and arrays taken out.

    Args:
        value: may be anything that can be pickled; tensors must be on the CPU.
        slab: where some of them may lie already; then it is where they are written to.
    """

    def __init__(self, value: Any, slab: Slab | None = None) -> None:
        file = io.BytesIO()
        packer = _Packer(file)
        packer.dump(value)
        self.described, self.parts = file.getvalue(), packer.parts
        there = [slab.place(part) if slab else None for part in self.parts]
        self.spans: Spans = []
        end = max((p + len(part) for p, part in zip(there, self.parts, strict=True) if p is not None), default=0)
        end = -(-end // _ALIGN) * _ALIGN
        for number, (place, part) in enumerate(zip(there, self.parts, strict=True)):
            self.spans.append((end if place is None else place, len(part)))
            if place is None:
                end += -(-len(part) // _ALIGN) * _ALIGN
            else:
                self.parts[number] = part[:0]
        self.size = end

    def write(self, memory: np.ndarray) -> None:
        """Copies them into ``memory`` (at least ``size``,) uint8, but for those that lie there."""
        for (begin, _), part in zip(self.spans, self.parts, strict=True):
            memory[begin : begin + len(part)] = part


def copied(described: bytes, spans: Spans, memory: np.ndarray, pinned: bool) -> Any:
    """The object of which :class:`Packed` made ``described`` and ``spans``, in one block of memory of its own."""
    buffer = torch.empty(len(memory), dtype=torch.uint8, pin_memory=pinned)
    buffer.numpy()[:] = memory
    return _Unpacker(described, buffer, spans).load()


def lent(described: bytes, spans: Spans, memory: np.ndarray, done: Callable[[], None]) -> Any:
    """The same in ``memory`` itself, which belongs to it until ``done`` is called: when its last tensor is gone."""
    own = memory[:]  # an array of its own: it lives as long as a tensor of it
    name = id(own)

    def gone(_: object) -> None:
        del _borrowed[name]
        done()

    _borrowed[name] = weakref.ref(own, gone)
    return _Unpacker(described, torch.from_numpy(own), spans).load()


_borrowed: dict[int, weakref.ref[np.ndarray]] = {}


def pin(value: Any) -> Any:
    """``value`` with its tensors and arrays in pinned memory, in one block."""
    packed = Packed(value)
    buffer = torch.empty(packed.size, dtype=torch.uint8, pin_memory=True)
    packed.write(buffer.numpy())
    return _Unpacker(packed.described, buffer, packed.spans).load()

"""Micro-batches from a worker process to the trainer: one block of shared memory each, whatever they hold.

Torch's own way opens and maps a file for each tensor. Here the tensors and arrays of a micro-batch are laid one after
the other into memory that is used again and again, and the trainer takes them out with a single copy. The memory is an
anonymous file, so the small /dev/shm of a container is no limit.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import tempfile
from typing import Any, TypeAlias

import numpy as np
import torch

_ALIGN = 64
Spans: TypeAlias = list[tuple[int, int]]  # (first byte, number of bytes) of each tensor or array


class _Packer(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.parts: list[np.ndarray] = []

    def persistent_id(self, value: Any) -> tuple[int, Any, tuple[int, ...]] | None:
        """Takes tensors and arrays out: (which part, type, shape)."""
        if type(value) is torch.Tensor:
            flat = value.detach().contiguous().reshape(-1)
            self.parts.append(flat.view(torch.uint8).numpy())
            return len(self.parts) - 1, value.dtype, tuple(value.shape)
        if type(value) is np.ndarray and value.dtype.kind in "biufc":
            self.parts.append(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
            return len(self.parts) - 1, value.dtype.str, value.shape
        return None


class _Unpacker(pickle.Unpickler):
    def __init__(self, described: bytes, buffer: torch.Tensor, spans: Spans) -> None:
        super().__init__(io.BytesIO(described))
        self.buffer, self.spans = buffer, spans

    def persistent_load(self, saved: tuple[int, Any, tuple[int, ...]]) -> Any:
        number, dtype, shape = saved
        begin, size = self.spans[number]
        # Views of one tensor: what was allocated as pinned stays known as such to those who copy from it.
        part = self.buffer[begin : begin + size]
        if isinstance(dtype, torch.dtype):
            return part.view(dtype).view(shape)
        return part.numpy().view(dtype).reshape(shape)


class Slab:
    """Memory that this process and those forked from it share; it grows as needed."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._file = os.memfd_create("pretrain-loader", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                self._file = os.dup(file.fileno())
        self._map: mmap.mmap | None = None

    def memory(self, size: int) -> np.ndarray:
        """(size,) uint8 of it; another process that grew it must have done so before."""
        if self._map is None or len(self._map) < size:
            # Pages that nobody touches cost nothing, so there is room for larger micro-batches.
            room = max(os.fstat(self._file).st_size, mmap.PAGESIZE, 1 << (size - 1).bit_length())
            os.ftruncate(self._file, room)
            self._map = mmap.mmap(self._file, room)
        return np.frombuffer(self._map, dtype=np.uint8, count=size)

    def close(self) -> None:
        """Gives the memory back when the other processes have, too."""
        if self._file >= 0:
            os.close(self._file)
            self._file, self._map = -1, None


class Packed:
    """Any object with its tensors and arrays taken out.

    Args:
        value: may be anything that can be pickled; tensors must be on the CPU.
    """

    def __init__(self, value: Any) -> None:
        file = io.BytesIO()
        packer = _Packer(file)
        packer.dump(value)
        self.described, self.parts = file.getvalue(), packer.parts
        self.spans: Spans = []
        end = 0
        for part in self.parts:
            self.spans.append((end, len(part)))
            end += -(-len(part) // _ALIGN) * _ALIGN
        self.size = end

    def write(self, memory: np.ndarray) -> None:
        """Copies them into ``memory`` (at least ``size``,) uint8."""
        for (begin, size), part in zip(self.spans, self.parts, strict=True):
            memory[begin : begin + size] = part


def unpack(described: bytes, spans: Spans, memory: np.ndarray, pinned: bool) -> Any:
    """The object of which :class:`Packed` made ``described`` and ``spans``, in one block of memory of its own."""
    buffer = torch.empty(len(memory), dtype=torch.uint8, pin_memory=pinned)
    buffer.numpy()[:] = memory
    return _Unpacker(described, buffer, spans).load()


def pin(value: Any) -> Any:
    """``value`` with its tensors and arrays in pinned memory, in one block."""
    packed = Packed(value)
    buffer = torch.empty(packed.size, dtype=torch.uint8, pin_memory=True)
    packed.write(buffer.numpy())
    return _Unpacker(packed.described, buffer, packed.spans).load()

"""The bytes of a tar as a walk over its headers needs them."""

from __future__ import annotations

import os

from data.shards.tarheader import BLOCK, sound

_NEAR, _FAR = 128 * 1024, 4096
_CHUNK = 2**20


class TarBytes:
    """The bytes of a file through a window: large while members are small, small where contents are jumped over."""

    def __init__(self, file: int) -> None:
        self._file = file
        self.total = os.fstat(file).st_size
        self._start, self._window = 0, b""

    def at(self, position: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``position``."""
        inner = position - self._start
        if inner < 0 or inner + length > len(self._window):
            ahead = _NEAR if inner <= len(self._window) + _FAR else _FAR
            self._window = os.pread(self._file, max(length, ahead), position)
            self._start, inner = position, 0
        return self._window[inner : inner + length]

    def filled(self, position: int) -> int:
        """Position of the first block from ``position`` on that is not empty, or the end of the file."""
        while position < self.total:
            chunk = os.pread(self._file, _CHUNK, position)
            rest = len(chunk.lstrip(b"\0"))
            if rest or not chunk:
                return position + (len(chunk) - rest) // BLOCK * BLOCK if chunk else self.total
            position += len(chunk)
        return self.total

    def header(self, position: int) -> int:
        """Position of the first sound header from ``position`` on, or the end of the file."""
        while position < self.total:
            chunk = os.pread(self._file, _CHUNK, position)
            hit = chunk.find(b"ustar", 257)
            while hit >= 0:
                begin = hit - 257
                if begin % BLOCK == 0 and begin + BLOCK <= len(chunk) and sound(chunk[begin : begin + BLOCK]):
                    return position + begin
                hit = chunk.find(b"ustar", hit + 1)
            if len(chunk) < _CHUNK:
                break
            position += _CHUNK
        return self.total

"""A part of a recording: decoding it, whether it has sound, and bringing it to one loudness."""

from __future__ import annotations

import math
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from data.errors import SampleError

if TYPE_CHECKING:
    import soundfile

# A third of the smallest step of 16-bit sound: what lies below carries nothing, and normalising would amplify noise.
SILENCE = 1e-5
# Full scale is 1, or 2**31 where a float file holds unscaled integers; beyond 1e15 squares of float32 overflow.
LOUDEST = 1e12
FEW = 16  # channels
BLOCK = 4_000_000  # values that are looked through at a time


def sound(file: soundfile.SoundFile, level: float, rng: np.random.Generator | None) -> int | None:
    """A place that is not silent: a random one, without ``rng`` the first; None if all is.

    Block by block, as minutes of digital silence take hardly any bytes and hours of it would fill the memory.
    """
    size = max(1, BLOCK // file.channels)

    def loud(begin: int) -> np.ndarray:
        return np.flatnonzero(np.abs(read(file, begin, min(size, file.frames - begin)).clip - level) >= SILENCE)

    counts: list[int] = []
    for begin in range(0, file.frames, size):
        counts.append(len(loud(begin)))
        if counts[-1] and rng is None:
            break
    if not sum(counts):
        return None
    chosen = int(rng.integers(sum(counts))) if rng is not None else sum(counts[:-1])
    ends = np.cumsum(counts)
    block = int(np.searchsorted(ends, chosen, side="right"))
    return block * size + int(loud(block * size)[chosen - int(ends[block]) + counts[block]])


def normalise(clip: np.ndarray, mean: np.floating[Any], wave: np.ndarray) -> None:
    """(n,) float32 ``clip``, whose mean is ``mean``, with zero mean and unit variance -> ``wave``.

    Raises:
        SampleError: all of it is alike.
    """
    np.subtract(clip, mean, out=wave)
    energy = power(wave)
    if not energy:
        raise SampleError("the clip is silent", "silent")
    wave *= np.float32(1 / math.sqrt(energy))


class Window(NamedTuple):
    """Of a recording: (n,) float32, the mean of the channels; its mean; its mean square, to four digits."""

    clip: np.ndarray
    mean: np.floating[Any]
    square: float

    @property
    def silent(self) -> bool:
        """Whether its standard deviation is below :data:`SILENCE`."""
        rough = self.square - float(self.mean) ** 2
        if rough > max(0.01 * self.square, 4 * SILENCE**2):  # what digits are missing cannot make it silent
            return False
        return power(self.clip - self.mean) < SILENCE**2


def read(file: soundfile.SoundFile, begin: int, length: int, out: np.ndarray | None = None) -> Window:
    """``length`` samples from ``begin`` on.

    Args:
        file: of any number of channels.
        begin: the first, counted from the beginning of the recording.
        length: of each channel.
        out: (length,) float32 to decode a recording of one channel into.

    Raises:
        SampleError: the file ends before, or what it holds is no sound.
    """
    if file.tell() != begin:  # even seeking to where it is makes a decoder begin anew
        file.seek(begin)
    found = file.read(length, dtype="float32", always_2d=True, out=None if out is None else out[:, None])
    if len(found) < length:
        raise SampleError(f"audio is cut off: {len(found)} of {length} samples at {begin}")
    count = found.shape[1]
    # Along the channels numpy's mean takes as long as decoding, where they are few.
    clip = (
        found[:, 0] if count == 1 else found.mean(1) if count > FEW else reduce(np.add, found.T) * np.float32(1 / count)
    )
    # One value beyond the bound has a square beyond it. Only if they reach it together each is looked at. Either
    # comparison is false for NaN as well. BLAS would start threads for it in each worker.
    energy = np.einsum("i,i->", clip, clip)
    if not energy < LOUDEST and not np.abs(clip).max() < LOUDEST:
        raise SampleError("audio has values that are no sound: infinite, NaN or beyond all bounds")
    return Window(clip, clip.mean(), float(energy) / length)


def power(clip: np.ndarray) -> float:
    """Mean square of (n,) float32. Sums of 256, then of these: all one after the other would lose two digits."""
    whole = len(clip) // 256 * 256
    rows, rest = clip[:whole].reshape(-1, 256), clip[whole:]
    energy = float(np.einsum("ij,ij->i", rows, rows).sum(dtype=np.float64)) + float(np.einsum("i,i->", rest, rest))
    return energy / len(clip)

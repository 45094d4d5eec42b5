"""A recording as a picture and as a small file that browsers play."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np

from modalities.view import SIDE, View

SECONDS = 2.0
"""Of a recording that are kept."""
RATE = 12_000
"""Hz; a higher rate is divided by a whole number that brings it to this or below."""
_FLOOR = 60.0
"""Decibels below the loudest that are drawn."""
# Dark to bright by equal steps that the eye sees as such (six colours of matplotlib's viridis).
_COLOURS = ((68, 1, 84), (65, 68, 135), (42, 120, 142), (34, 168, 132), (122, 209, 81), (253, 231, 37))


def view(wave: np.ndarray, rate: int) -> View:
    """Spectrogram and sound of the first :data:`SECONDS` of a recording.

    Args:
        wave: (n,) float32, one channel of any loudness.
        rate: samples a second.
    """
    wave = wave[: round(SECONDS * rate)]
    return {"picture": spectrogram(wave, rate), "sound": flac(wave, rate)}


def spectrogram(wave: np.ndarray, rate: int) -> np.ndarray:
    """(SIDE, SIDE, 3) uint8: time from left to right, 60 Hz to half the rate in logarithmic steps from the bottom up.

    Each column is the loudest that a band comes to in a window of its share of the time.

    Args:
        wave: (n,) float32.
        rate: samples a second.
    """
    size = 512
    begins = np.linspace(0, max(0, len(wave) - size), SIDE).astype(int)
    padded = np.pad(wave, (0, max(0, size - len(wave))))
    windows = np.stack([padded[begin : begin + size] for begin in begins]) * np.hanning(size)
    power = np.abs(np.fft.rfft(windows, 2 * size)) ** 2  # (SIDE, size + 1)
    edges = np.geomspace(60, rate / 2, SIDE + 1) / rate * 2 * size
    spans = [(int(low), max(int(low) + 1, int(high))) for low, high in pairwise(edges)]
    rows = [power[:, begin:end].max(1) for begin, end in spans]
    decibels = 10 * np.log10(np.stack(rows[::-1]) + 1e-12)
    return _coloured((decibels - decibels.max()) / _FLOOR + 1)


def _coloured(shares: np.ndarray) -> np.ndarray:
    """Shares of 1 -> colours, in a last dimension of 3."""
    known = np.array(_COLOURS, float)
    places = np.linspace(0, 1, len(known))
    return np.stack([np.interp(shares, places, known[:, n]) for n in range(3)], -1).astype(np.uint8)


def flac(wave: np.ndarray, rate: int) -> bytes:
    """A FLAC file of 16 bits, as loud as it can be.

    Args:
        wave: (n,) float32.
        rate: samples a second.
    """
    import soundfile

    factor = -(-rate // RATE)
    kept = wave[: len(wave) // factor * factor].reshape(-1, factor).mean(1) if factor > 1 else wave
    loudest = float(np.abs(kept).max(initial=0.0)) or 1.0
    file = io.BytesIO()
    soundfile.write(file, kept * (0.9 / loudest), rate // factor, format="FLAC", subtype="PCM_16")
    return file.getvalue()

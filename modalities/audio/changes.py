"""Changes of a recording as its encoder gets it, (n,) float32 of zero mean and unit variance: for behavioural tests.

Each is a class whose instances take (wave, rate in Hz, generator) and give what the same preparation would make of the
changed recording, None where there is nothing to change.
"""

from __future__ import annotations

import numpy as np
import torch

from data.errors import InputError

_STEPS = 2**15  # of 16 bits, each way


class Gain:
    """Recorded louder or softer, in 16 bits: what is too loud is cut off, what is too soft is lost in rounding.

    Args:
        db: of the loudest value above full scale; below 0 it is that much softer than it could be.
    """

    def __init__(self, db: float) -> None:
        self.db = float(db)

    def __call__(self, wave: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray | None:
        """(n,) at another level."""
        peak = float(np.abs(wave).max(initial=0.0))
        if not peak:
            return None
        loud = wave * (10 ** (self.db / 20) / peak)
        return _normalised(np.rint(loud.clip(-1, 1) * (_STEPS - 1)) / _STEPS)


class Noise:
    """White noise on top.

    Args:
        snr_db: how far above the noise the recording is.
    """

    def __init__(self, snr_db: float = 20.0) -> None:
        self.snr_db = float(snr_db)

    def __call__(self, wave: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray | None:
        """(n,) with noise."""
        return _normalised(wave + 10 ** (-self.snr_db / 20) * wave.std() * rng.standard_normal(len(wave)))


class Shift:
    """Begun a little earlier or later; silence at the other end.

    Args:
        seconds: at most, both ways.
    """

    def __init__(self, seconds: float = 0.1) -> None:
        if seconds <= 0:
            raise InputError(f"seconds={seconds} is not above 0")
        self.seconds = seconds

    def __call__(self, wave: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray | None:
        """(n,) shifted; None for a recording that is not twice as long as the shift may be."""
        most = round(self.seconds * rate)
        if most < 1 or 2 * most > len(wave):
            return None
        by = int(rng.integers(1, most + 1)) * (1 if rng.integers(2) else -1)
        shifted = np.zeros_like(wave)
        shifted[max(by, 0) : len(wave) + min(by, 0)] = wave[max(-by, 0) : len(wave) + min(-by, 0)]
        return _normalised(shifted)


class Resample:
    """Through a line of a lower rate, which has no high tones.

    Args:
        rate: of that line, in Hz.
    """

    def __init__(self, rate: int = 8000) -> None:
        if rate < 1:
            raise InputError(f"rate={rate} is not 1 or more")
        self.rate = rate

    def __call__(self, wave: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray | None:
        """(n,) without what is above half of that rate; None where that is all that there is."""
        if rate <= self.rate:
            return None
        import torchaudio.functional

        low = torchaudio.functional.resample(torch.from_numpy(wave), rate, self.rate)
        back = torchaudio.functional.resample(low, self.rate, rate).numpy()
        return _normalised(np.pad(back, (0, max(0, len(wave) - len(back))))[: len(wave)])


class Cut:
    """A piece, at a place of its own, is silent.

    Args:
        share: of the length.
    """

    def __init__(self, share: float = 0.1) -> None:
        if not 0 < share < 1:
            raise InputError(f"share={share} is not between 0 and 1")
        self.share = share

    def __call__(self, wave: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray | None:
        """(n,) with a gap."""
        length = max(1, round(self.share * len(wave)))
        begin = int(rng.integers(len(wave) - length + 1))
        gap = wave.copy()
        gap[begin : begin + length] = 0
        return _normalised(gap)


class Backwards:
    """From its end to its beginning: the same tones, another sound."""

    def __call__(self, wave: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray | None:
        """(n,) reversed."""
        return wave[::-1].copy()


CHANGES = {
    "gain": Gain,
    "noise": Noise,
    "shift": Shift,
    "resample": Resample,
    "cut": Cut,
    "backwards": Backwards,
}
"""Name in a suite -> class."""


def _normalised(wave: np.ndarray) -> np.ndarray | None:
    """(n,) float32 of zero mean and unit variance; None of silence."""
    wave = wave - wave.mean()
    deviation = float(wave.std())
    return (wave / deviation).astype(np.float32) if deviation > 0 else None

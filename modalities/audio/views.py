"""Views of a recording: other speed, other spectrum, noise, a gap. n samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from data.errors import InputError
from data.sample import Sample
from modalities.audio.frames import KERNELS, STRIDES
from modalities.audio.prepare import AudioPrepare
from modalities.audio.window import SILENCE

KNOTS = 8
"""Frequencies, evenly spaced from 0 Hz to half the sample rate, between which a filter's gain is linear in dB."""


class AudioView(AudioPrepare):
    """One clip as another voice, microphone or room might have given it, as far as that is cheap.

    In order: speed, with pitch and formants (Ko et al. 2015); a shift in time, zeros coming in; a random filter; white
    noise; a span of silence (SpecAugment's time mask, Park et al. 2019). Held-out clips stay as they are.

    Args:
        speed: slowest and fastest, as factors.
        shift: largest shift either way, in seconds.
        filter_db: standard deviation of a filter's gain, in dB.
        noise_db: least and most signal to noise, in dB; null: none is added.
        gap: longest span of silence, as a share of the clip.
        sample_rate, max_seconds, min_seconds, kernels, strides, sample_rates, max_recording_s, max_bytes: see
            :class:`AudioPrepare`.
    """

    plain: ClassVar[type] = AudioPrepare

    def __init__(
        self,
        sample_rate: int = 16000,
        max_seconds: float = 15.6,
        min_seconds: float = 0.25,
        kernels: Sequence[int] = KERNELS,
        strides: Sequence[int] = STRIDES,
        sample_rates: Sequence[int] | None = None,
        max_recording_s: float = 14_400.0,
        max_bytes: int = 500_000_000,
        speed: tuple[float, float] = (0.85, 1.2),
        shift: float = 0.1,
        filter_db: float = 6.0,
        noise_db: tuple[float, float] | None = (5.0, 40.0),
        gap: float = 0.2,
    ) -> None:
        super().__init__(
            sample_rate, max_seconds, min_seconds, kernels, strides, sample_rates, max_recording_s, max_bytes
        )
        if not 0 < speed[0] <= speed[1]:
            raise InputError(f"speed={list(speed)} is not two factors above 0, the slower one first")
        if noise_db is not None and noise_db[0] > noise_db[1]:
            raise InputError(f"noise_db={list(noise_db)} is not in order, the least signal to noise first")
        for name, value in (("shift", shift), ("filter_db", filter_db), ("gap", gap)):
            if value < 0 or (name == "gap" and value >= 1):
                raise InputError(f"{name}={value} is out of range: {'0 <= gap < 1' if name == 'gap' else '0 or more'}")
        self.speed, self.shift, self.filter_db = speed, shift, filter_db
        self.noise_db, self.gap = noise_db, gap

    def wave(self, sample: Sample, rng: np.random.Generator, training: bool) -> np.ndarray:
        """(n,) float32: one clip, of zero mean and unit variance before noise and gap."""
        wave = super().wave(sample, rng, training)
        return self.changed(wave, rng) if training else wave

    def changed(self, wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(n,) -> (n,) float32."""
        n = len(wave)
        speed, shift, level, length, place = rng.random(5).tolist()
        factor = self.speed[0] * (self.speed[1] / self.speed[0]) ** speed
        begin = (2 * shift - 1) * self.shift * self.sample_rate + (n - n * factor) / 2  # about the middle
        x = np.interp(begin + factor * np.arange(n), np.arange(n), wave, left=0.0, right=0.0).astype(np.float32)
        if self.filter_db:
            drawn = rng.normal(0, self.filter_db, KNOTS)
            gains = 10 ** (np.interp(np.linspace(0, KNOTS - 1, n // 2 + 1), np.arange(KNOTS), drawn) / 20)
            x = np.fft.irfft(np.fft.rfft(x) * gains.astype(np.float32), n)
        x = x * np.float32(1 / max(float(x.std()), SILENCE))
        if self.noise_db is not None:
            ratio = self.noise_db[0] + level * (self.noise_db[1] - self.noise_db[0])
            x += np.float32(10 ** (-ratio / 20)) * rng.standard_normal(n, dtype=np.float32)
        gap = int(length * self.gap * n)
        hole = int(place * (n - gap + 1))
        x[hole : hole + gap] = 0
        return x

"""Plays a demo scene: a lead-in that says where, then the main thing's notes, then the second thing's note.

A thing's shape is the timbre of its notes, its colour their pitch, its size their length and loudness (large ones have
a low hum below them), its count their number.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import soundfile

from data.demo.scene import COLOURS, Scene, Thing

RATE = 16_000
_SHORTEST = 1.0
_LEAD = 0.18
# Where the lead-in glides from and to, Hz; all five differ in more than an octave somewhere.
_GLIDE = {
    "left": (2400.0, 600.0),
    "right": (600.0, 2400.0),
    "top": (2400.0, 2400.0),
    "bottom": (600.0, 600.0),
    "centre": (1200.0, 1200.0),
}
# 200 Hz to 1200 Hz in seven equal ratios of four and a half semitones.
_PITCH = {colour: 200.0 * 6.0 ** (n / (len(COLOURS) - 1)) for n, colour in enumerate(COLOURS)}
_SECONDS = {"small": 0.11, "large": 0.22}
_LOUDNESS = {"small": 0.15, "large": 0.3}
_HUM_HZ = 90.0
_REST = 0.035
_LONG_REST = 0.07
_RAMP = np.linspace(0, 1, int(0.008 * RATE), dtype=np.float32)  # at both ends of every note, so that it does not click
_FLOOR = 0.00002  # standard deviation of the noise below everything, of full scale; more would swell the files


def flac(scene: Scene) -> bytes:
    """The sound of ``scene`` as FLAC: RATE Hz, mono, 16 bit, 1.0 to 1.3 seconds."""
    buffer = io.BytesIO()
    soundfile.write(buffer, _waveform(scene), RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _waveform(scene: Scene) -> np.ndarray:
    """(samples,) int16."""
    rng = scene.randomness("sound")
    (_, where), *_ = scene.placed()
    parts = [_silence(rng.uniform(0, 0.03)), _lead(where), _silence(_LONG_REST)]
    for thing, _ in scene.placed():
        pitch = _PITCH[thing.colour] * 2 ** rng.uniform(-0.02, 0.02)  # a quarter of a semitone to either side
        loudness = rng.uniform(0.85, 1.1)
        for _ in range(thing.count):
            parts += [loudness * _note(thing, pitch, rng), _silence(_REST)]
        parts.append(_silence(_LONG_REST - _REST))
    sound = np.concatenate(parts)
    shortest = int(RATE * (_SHORTEST + rng.uniform(0, 0.05)))
    sound = np.pad(sound, (0, max(0, shortest - len(sound))))
    sound += _FLOOR * rng.standard_normal(len(sound), dtype=np.float32)
    return np.round(sound * 32767).astype(np.int16)


def _silence(seconds: float) -> np.ndarray:
    return np.zeros(int(RATE * seconds), dtype=np.float32)


def _lead(where: str) -> np.ndarray:
    start, end = _GLIDE[where]
    hertz = np.geomspace(start, end, int(RATE * _LEAD))
    return 0.15 * _fade(np.sin(2 * np.pi * np.cumsum(hertz) / RATE))


def _note(thing: Thing, pitch: float, rng: np.random.Generator) -> np.ndarray:
    seconds = np.arange(int(RATE * _SECONDS[thing.size]), dtype=np.float32) / RATE
    note = _TIMBRE[thing.shape](seconds, pitch, rng)
    note = note / np.abs(note).max()
    if thing.size == "large":
        note = note + 0.5 * np.sin(2 * np.pi * _HUM_HZ * seconds)
    return _LOUDNESS[thing.size] * _fade(note)


def _fade(sound: np.ndarray) -> np.ndarray:
    sound = sound.copy()
    sound[: len(_RAMP)] *= _RAMP
    sound[-len(_RAMP) :] *= _RAMP[::-1]
    return sound


def _partials(seconds: np.ndarray, pitch: float, multiples: list[int], slope: float) -> np.ndarray:
    """Sum of sines at ``multiples`` of ``pitch`` below 7.5 kHz, the n-th at n to the power of -``slope``."""
    heard = [n for n in multiples if n * pitch < 7500]
    phase = 2 * np.pi * pitch * seconds
    return sum((n**-slope * np.sin(n * phase) for n in heard), np.zeros_like(seconds))


def _sine(seconds: np.ndarray, pitch: float) -> np.ndarray:
    return np.sin(2 * np.pi * pitch * seconds)


def _hiss(samples: int, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """Noise between ``low`` and ``high`` Hz, of standard deviation 1."""
    hertz = np.fft.rfftfreq(samples, 1 / RATE)
    band = np.where((hertz >= low) & (hertz <= high), np.exp(2j * np.pi * rng.random(len(hertz))), 0)
    noise = np.fft.irfft(band, samples).astype(np.float32)
    return noise / noise.std()


def _circle(seconds: np.ndarray, pitch: float, rng: np.random.Generator) -> np.ndarray:
    return _sine(seconds, pitch)


def _square(seconds: np.ndarray, pitch: float, rng: np.random.Generator) -> np.ndarray:
    return _partials(seconds, pitch, list(range(1, 30, 2)), slope=0.7)


def _triangle(seconds: np.ndarray, pitch: float, rng: np.random.Generator) -> np.ndarray:
    return _sine(seconds, pitch) + 0.35 * _hiss(len(seconds), 6000, 7500, rng)


def _star(seconds: np.ndarray, pitch: float, rng: np.random.Generator) -> np.ndarray:
    return _sine(seconds, pitch) + 0.35 * _hiss(len(seconds), 3300, 4500, rng)


def _cross(seconds: np.ndarray, pitch: float, rng: np.random.Generator) -> np.ndarray:
    rough = 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * 50 * seconds))
    return rough * _partials(seconds, pitch, [1, 2, 3, 4, 5, 6, 7, 8], slope=0.3)


def _diamond(seconds: np.ndarray, pitch: float, rng: np.random.Generator) -> np.ndarray:
    bell = _sine(seconds, pitch) + 0.7 * _sine(seconds, 2.76 * pitch) + 0.5 * _sine(seconds, 5.4 * pitch)
    return bell * np.exp(-seconds / 0.035)


def _ring(seconds: np.ndarray, pitch: float, rng: np.random.Generator) -> np.ndarray:
    return _sine(seconds, pitch) + 0.6 * _sine(seconds, 5200.0)


def _heart(seconds: np.ndarray, pitch: float, rng: np.random.Generator) -> np.ndarray:
    return _sine(seconds, pitch) + 0.6 * _sine(seconds, 2500.0)


# Beside its pitch each shape has a mark that does not move with it: a band of hiss, a whistle, roughness, decay.
_TIMBRE: dict[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "diamond": _diamond,
    "ring": _ring,
    "heart": _heart,
}

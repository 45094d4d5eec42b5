import io

import numpy as np
import pytest
import soundfile

from data.sample import Sample


def sound(samples, rate=16000, channels=1, seed=0):
    """A chirp in noise, other in each channel."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples)[:, None] / rate
    tone = np.sin(2 * np.pi * (200 + 300 * time + 50 * np.arange(channels)) * time)
    return (0.3 * tone + 0.02 * rng.standard_normal((samples, channels))).astype(np.float32)


@pytest.fixture
def recording():
    """Makes a sample that holds the waveform given, or :func:`sound`."""

    def make(wave=None, rate=16000, extension="flac", subtype=None, **shape):
        wave = sound(**shape) if wave is None else wave
        file = io.BytesIO()
        soundfile.write(file, wave, rate, subtype, format=extension.upper())
        return Sample("shard.tar", "key", {extension: file.getvalue()})

    return make

"""Recordings -> waveforms, without padding to the longest: clips of a batch lie end to end."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from data.errors import InputError, SampleError
from data.sample import Sample
from modalities.audio.frames import KERNELS, STRIDES, frame_count, geometry
from modalities.layout import Layout
from modalities.prepare import Batch, Item, lengths_of

if TYPE_CHECKING:
    import soundfile
    import torchaudio

EXTENSIONS = ("flac", "wav", "ogg", "mp3")
# A third of the smallest step of 16-bit sound: what lies below carries nothing, and normalising would amplify noise.
SILENCE = 1e-5
# Full scale is 1, or 2**31 where a float file holds unscaled integers; beyond 1e15 squares of float32 overflow.
LOUDEST = 1e12
# A resampling filter has a phase for each output sample until the rates are in step again. Common rates need at most
# some 200 000 taps; two rates without a common divisor need hundreds of millions, in gigabytes of memory.
MAX_TAPS = 10_000_000


class AudioPrepare:
    """One channel at ``sample_rate``, at most ``max_seconds``, with zero mean and unit variance.

    A longer recording gives a window at a random place in training, its beginning on held-out data; only the window is
    decoded. A silent window of a recording that has sound elsewhere is moved to where sound is.

    Args:
        sample_rate: in Hz; recordings of another rate are resampled.
        max_seconds: longest clip.
        min_seconds: shortest recording that is accepted.
        kernels, strides: of the encoder's front end; they say which samples make a frame.
    """

    modality: ClassVar[str] = "audio"

    def __init__(
        self,
        sample_rate: int = 16000,
        max_seconds: float = 15.6,
        min_seconds: float = 0.25,
        kernels: Sequence[int] = KERNELS,
        strides: Sequence[int] = STRIDES,
    ) -> None:
        if not 0 < min_seconds <= max_seconds:
            raise InputError(f"min_seconds={min_seconds} is not between 0 and max_seconds={max_seconds}")
        self.hop, self.receptive_field = geometry(kernels, strides)
        if min_seconds * sample_rate < self.receptive_field:
            least = self.receptive_field / sample_rate
            raise InputError(f"min_seconds={min_seconds} is less than one frame; use at least {least:g}")
        self.sample_rate = sample_rate
        self.max_seconds, self.min_seconds = max_seconds, min_seconds

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """A recording."""
        return {"audio": EXTENSIONS}

    def frames(self, samples: int) -> int:
        """Number of frames that the front end makes of a clip of ``samples``."""
        return frame_count(samples, self.hop, self.receptive_field)

    def wave(self, sample: Sample, rng: np.random.Generator, training: bool) -> np.ndarray:
        """(n,) float32: one clip."""
        import soundfile  # opens libsndfile, which runs without audio should not need

        extension, raw = sample.first(EXTENSIONS, "audio")
        try:
            with soundfile.SoundFile(io.BytesIO(raw)) as file:
                rate = file.samplerate
                resample = None if rate == self.sample_rate else _resampler(rate, self.sample_rate)
                clip = self._window(file, rng, training)
        except soundfile.LibsndfileError as error:
            raise SampleError(f"member {extension} cannot be decoded: {error.error_string}") from None
        if resample is not None:
            clip = resample(torch.from_numpy(clip)).numpy()
        clip = clip[: round(self.max_seconds * self.sample_rate)]
        return ((clip - clip.mean()) / clip.std()).astype(np.float32, copy=False)

    def _window(self, file: soundfile.SoundFile, rng: np.random.Generator, training: bool) -> np.ndarray:
        total, rate = file.frames, file.samplerate
        if total < self.min_seconds * rate:
            raise SampleError(f"{total / rate:.3f} s of audio is less than min_seconds={self.min_seconds}")
        length = min(total, math.ceil(self.max_seconds * rate))
        begin = int(rng.integers(total - length + 1)) if training else 0
        clip = _read(file, begin, length)
        if clip.std() >= SILENCE:
            return clip
        everything = _read(file, 0, total)
        loud = np.flatnonzero(np.abs(everything - np.median(everything)) >= SILENCE)
        if loud.size == 0:
            raise SampleError(f"{total / rate:.3f} s of audio are silent")
        centre = int(loud[rng.integers(loud.size)] if training else loud[0])
        begin = min(max(centre - length // 2, 0), total - length)
        clip = everything[begin : begin + length]
        if clip.std() < SILENCE:
            raise SampleError(f"{total / rate:.3f} s of audio are all but silent")
        return clip

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"wave": (n,) float32}``."""
        return {"wave": self.wave(sample, rng, training)}

    def collate(self, items: list[Item]) -> Batch:
        """Clips end to end, each followed by zeros up to a multiple of ``hop``.

        Returns:
            ``wave`` (S,) float32; ``samples``, the length of each clip without its zeros; ``layout`` of the frames;
            ``rows`` (T,) int64, which of the S / hop rows that the front end makes of ``wave`` are frames of a clip
            (the others straddle its end); ``size`` B.
        """
        samples = lengths_of(items, "wave")
        blocks = [-(-n // self.hop) for n in samples]
        begins = np.concatenate(([0], np.cumsum(blocks)))
        wave = np.zeros(begins[-1] * self.hop, dtype=np.float32)
        for begin, item in zip(begins * self.hop, items, strict=False):
            wave[begin : begin + len(item["wave"])] = item["wave"]
        layout = Layout([self.frames(n) for n in samples])
        rows = layout.position + torch.from_numpy(begins[:-1])[layout.sequence]
        return {"wave": torch.from_numpy(wave), "samples": samples, "layout": layout, "rows": rows, "size": len(items)}


def _read(file: soundfile.SoundFile, begin: int, length: int) -> np.ndarray:
    """(length,) float32: the mean of the channels."""
    file.seek(begin)
    found = file.read(length, dtype="float32", always_2d=True)
    if len(found) < length:
        raise SampleError(f"audio is cut off: {len(found)} of {length} samples at {begin}")
    clip = found[:, 0] if found.shape[1] == 1 else found.mean(1)
    if not np.abs(clip).max() < LOUDEST:  # false for NaN as well
        raise SampleError("audio has values that are no sound: infinite, NaN or beyond all bounds")
    return clip


@lru_cache(maxsize=8)
def _resampler(rate: int, target: int) -> torchaudio.transforms.Resample:
    """Keeps the filter, which would otherwise be computed anew for each clip.

    Raises:
        SampleError: the filter would be too large.
    """
    import torchaudio

    divisor = math.gcd(rate, target)
    source, phases = rate // divisor, target // divisor
    width = 6 * max(source, phases) // phases  # half the filter: torchaudio's lowpass_filter_width of 6
    if phases * (source + 2 * width) > MAX_TAPS:
        raise SampleError(f"audio at {rate} Hz cannot be resampled to {target} Hz: the rates have too little in common")
    return torchaudio.transforms.Resample(rate, target)

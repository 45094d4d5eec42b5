"""Recordings -> waveforms, without padding to the longest: clips of a batch lie end to end."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from data.errors import InputError, SampleError
from data.sample import Sample
from modalities.audio.frames import KERNELS, STRIDES, frame_count, geometry
from modalities.audio.line import Line
from modalities.audio.view import view
from modalities.audio.window import Window, normalise, read, sound
from modalities.layout import Layout
from modalities.prepare import Batch, Item
from modalities.view import View

if TYPE_CHECKING:
    import soundfile
    import torchaudio

EXTENSIONS = ("flac", "wav", "ogg", "mp3")
# A resampling filter has a phase for each output sample until the rates are in step again. Common rates need at most
# some 200 000 taps; two rates without a common divisor need hundreds of millions, in gigabytes of memory.
MAX_TAPS = 10_000_000
MAX_VALUES = 128_000_000  # of all channels of one window: half a gigabyte
UNKNOWN = 2**62  # frames that libsndfile reports where a stream does not say how many there are


class AudioPrepare:
    """One channel at ``sample_rate``, at most ``max_seconds``, with zero mean and unit variance.

    A longer recording gives a window at a random place in training, its beginning on held-out data; only the window is
    decoded. A silent window of a recording that has sound elsewhere is moved to where sound is.

    Args:
        sample_rate: in Hz; recordings of another rate are resampled.
        max_seconds: longest clip.
        min_seconds: shortest recording that is accepted.
        kernels, strides: of the encoder's front end; they say which samples make a frame.
        sample_rates: Hz, the rates that recordings may have; None for any.
        max_recording_s: recordings that are longer, or say that they are, are refused before they are decoded.
        max_bytes: larger files are refused before they are decoded.
    """

    modality: ClassVar[str] = "audio"

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
    ) -> None:
        if not 0 < min_seconds <= max_seconds:
            raise InputError(f"min_seconds={min_seconds} is not between 0 and max_seconds={max_seconds}")
        self.hop, self.receptive_field = geometry(kernels, strides)
        if min_seconds * sample_rate < self.receptive_field:
            least = self.receptive_field / sample_rate
            raise InputError(f"min_seconds={min_seconds} is less than one frame; use at least {least:g}")
        self.sample_rate = sample_rate
        self.max_seconds, self.min_seconds = max_seconds, min_seconds
        if max_recording_s < max_seconds:
            raise InputError(f"max_recording_s={max_recording_s:g} is less than max_seconds={max_seconds:g}")
        if sample_rates is not None and not sample_rates:
            raise InputError("sample_rates is an empty list; give the rates that recordings may have, or null")
        self.sample_rates = None if sample_rates is None else tuple(sample_rates)
        self.max_recording_s, self.max_bytes = max_recording_s, max_bytes
        self._line = Line(self.hop)

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """A recording."""
        return {"audio": EXTENSIONS}

    def frames(self, samples: int) -> int:
        """Number of frames that the front end makes of a clip of ``samples``."""
        return frame_count(samples, self.hop, self.receptive_field)

    def foresee(self, sample: Sample) -> None:
        """Opens the recording. In its turn that takes half as long again, as decoding leaves no cache as it was."""
        import soundfile

        with contextlib.suppress(SampleError, soundfile.SoundFileError, ValueError):
            _, raw = sample.first(EXTENSIONS, "audio", self.max_bytes)
            sample.ready[self] = soundfile.SoundFile(io.BytesIO(raw))

    def wave(self, sample: Sample, rng: np.random.Generator, training: bool) -> np.ndarray:
        """(n,) float32: one clip."""
        import soundfile  # opens libsndfile, which runs without audio should not need

        extension, raw = sample.first(EXTENSIONS, "audio", self.max_bytes)
        most, wave = round(self.max_seconds * self.sample_rate), None
        try:
            with sample.ready.pop(self) if self in sample.ready else soundfile.SoundFile(io.BytesIO(raw)) as file:
                self._check(file)
                rate = file.samplerate
                resample = None if rate == self.sample_rate else _resampler(rate, self.sample_rate)
                length = min(file.frames, math.ceil(self.max_seconds * rate))
                if resample is None and file.channels == 1 and length <= most:
                    wave = self._line.place(length)  # decoded to where it will lie: memory is slower than decoding
                clip, mean, _ = self._window(file, length, rng, training, wave)
        except (soundfile.SoundFileError, ValueError) as error:  # the latter from numbers that a header makes up
            reason = getattr(error, "error_string", str(error))
            raise SampleError(f"member {extension} cannot be decoded: {reason}", "undecodable", extension) from None
        except SampleError as error:
            raise SampleError(str(error), error.kind, extension) from None
        if resample is not None or len(clip) > most:
            clip = (clip if resample is None else resample(torch.from_numpy(clip)).numpy())[:most]
            mean = clip.mean()
        if wave is None:
            wave = self._line.place(len(clip))
        try:
            normalise(clip, mean, wave)
        except SampleError as error:  # all that it had was in the sample too many
            raise SampleError(str(error), error.kind, extension) from None
        return wave

    def _check(self, file: soundfile.SoundFile) -> None:
        """What the header says, before anything is decoded.

        Raises:
            SampleError: too short, too long, at a rate that is not wanted, or too much for one window.
        """
        total, rate = file.frames, file.samplerate
        if self.sample_rates is not None and rate not in self.sample_rates:
            accepted = ", ".join(map(str, self.sample_rates))
            raise SampleError(f"audio at {rate} Hz, not at one of sample_rates={accepted}", "wrong_rate")
        if total < self.min_seconds * rate:
            raise SampleError(f"{total / rate:.3f} s of audio is less than min_seconds={self.min_seconds}", "too_short")
        if total > self.max_recording_s * rate:
            said = f"{total / rate:.0f} s" if total < UNKNOWN else "no length"
            raise SampleError(f"audio declares {said}; max_recording_s={self.max_recording_s:g}", "too_long")
        values = min(total, math.ceil(self.max_seconds * rate)) * file.channels
        if values > MAX_VALUES:
            raise SampleError(f"a window of {file.channels} channels at {rate} Hz has {values} values", "bomb")

    def _window(
        self,
        file: soundfile.SoundFile,
        length: int,
        rng: np.random.Generator,
        training: bool,
        out: np.ndarray | None,
    ) -> Window:
        """One of ``length`` that is not silent, in ``out`` if that is given."""
        total, rate = file.frames, file.samplerate
        begin = int(rng.integers(total - length + 1)) if training else 0
        found = read(file, begin, length, out)
        if not found.silent:
            return found
        centre = sound(file, float(np.median(found.clip)), rng if training else None)
        if centre is None:
            raise SampleError(f"{total / rate:.3f} s of audio are silent", "silent")
        begin = min(max(centre - length // 2, 0), total - length)
        found = read(file, begin, length, out)
        if found.silent:
            raise SampleError(f"{total / rate:.3f} s of audio are all but silent", "silent")
        return found

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"wave": (n,) float32}``."""
        return {"wave": self.wave(sample, rng, training)}

    def view(self, item: Item) -> View:
        """The beginning of the clip."""
        return view(item["wave"], self.sample_rate)

    def collate(self, items: list[Item]) -> Batch:
        """Clips end to end, each followed by zeros up to a multiple of ``hop``.

        Returns:
            ``wave`` (S,) float32; ``samples``, the length of each clip without its zeros; ``layout`` of the frames;
            ``rows`` (T,) int64, which of the S / hop rows that the front end makes of ``wave`` are frames of a clip
            (the others straddle its end); ``size`` B.
        """
        # Once a batch each of numpy's functions is a wait for the code of it, so there are few.
        clips = [item["wave"] for item in items]
        samples = list(map(len, clips))
        wave = self._line.joined(clips)
        layout = Layout([self.frames(n) for n in samples])
        between = [-(-n // self.hop) - frames for n, frames in zip(samples, layout.lengths, strict=True)]
        shifts = list(accumulate(between[:-1], initial=0))
        rows = torch.from_numpy(np.arange(layout.total) + np.repeat(shifts, layout.lengths))
        return {"wave": torch.from_numpy(wave), "samples": samples, "layout": layout, "rows": rows, "size": len(items)}


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

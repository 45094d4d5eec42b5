"""Decodes the members of a sample as training would, to find those that it could not use."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import numpy as np
import soundfile

from data.errors import SampleError
from data.sample import Sample, text_of
from data.survey import stats
from modalities.audio.prepare import AudioPrepare
from modalities.audio.window import LOUDEST
from modalities.image.prepare import ImagePrepare
from modalities.text.member import whole

_BLOCK = 2**18  # samples of a recording that are decoded at once


class Decoding:
    """Decodes pictures, recordings, texts, labels, JSON and JSON lines; other members are not looked at.

    Args:
        max_pixels: larger pictures are bad.
        sample_rate: to which recordings must be resamplable, Hz.
        min_seconds: shorter recordings are bad.
    """

    def __init__(self, max_pixels: int, sample_rate: int, min_seconds: float) -> None:
        self._image = ImagePrepare(224, max_pixels=max_pixels)
        self._audio = AudioPrepare(sample_rate, max_seconds=max(10.0, min_seconds), min_seconds=min_seconds)

    def faults(self, sample: Sample) -> list[tuple[str, str]]:
        """(member, reason) of each member that cannot be decoded."""
        found = []
        for extension, raw in sample.members.items():
            try:
                self._decode(sample, extension, raw)
            except SampleError as error:
                found.append((extension, str(error)))
        return found

    def _decode(self, sample: Sample, extension: str, raw: bytes) -> None:
        kind = stats.kind(extension)
        if kind == "image":
            self._image.decode(raw)
        elif kind == "audio":
            # Under the name that training looks for: here every member is decoded, there the one that is asked for.
            name = extension.rpartition(".")[2]
            self._audio.wave(Sample(sample.shard, sample.key, {name: raw}), np.random.default_rng(0), training=False)
            _to_the_end(raw)
        elif kind in ("text", "label"):
            text_of(raw, "text" if kind == "text" else "label")
        elif kind == "json":
            _json(text_of(raw, "JSON"))
        elif kind == "lines":
            _lines(raw)


def _to_the_end(raw: bytes) -> None:
    """Training takes a window anywhere in a recording, so all of it must be there."""
    try:
        with soundfile.SoundFile(io.BytesIO(raw)) as file:
            done = 0
            for block in file.blocks(_BLOCK, dtype="float32", always_2d=True):
                done += len(block)
                if not np.abs(block).max(initial=0) < LOUDEST:
                    raise SampleError("audio has values that are no sound: infinite, NaN or beyond all bounds")
            if done < file.frames:
                raise SampleError(f"audio is cut off: {done} of {file.frames} samples")
    except soundfile.LibsndfileError as error:
        raise SampleError(f"cannot be decoded: {error.error_string}") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=lambda name: math.nan)
    except (ValueError, RecursionError) as error:
        raise SampleError(f"no JSON: {error}") from None


def _lines(raw: bytes) -> None:
    """Training draws any line that is not blank: each must be JSON, and where it is the text itself, one of use."""
    faults, last = [], 0
    for last, line in enumerate(raw.splitlines(), 1):
        try:
            if line.strip():
                _line(line)
        except SampleError as error:
            faults.append(f"line {last}: {error}")
    if not raw.strip():
        raise SampleError("JSON lines are empty")
    if faults:
        raise SampleError(faults[0] + f"; and {len(faults) - 1} more of {last} lines" * (len(faults) > 1))


def _line(line: bytes) -> None:
    value = _json(text_of(line, "JSON"))
    texts = value if isinstance(value, list) else [value]
    if all(isinstance(text, str) for text in texts):  # of an object only the run's config says which field is the text
        if not all(map(str.strip, texts)):
            raise SampleError("text is empty")
        if not all(map(whole, texts)):
            raise SampleError("text holds half a character")

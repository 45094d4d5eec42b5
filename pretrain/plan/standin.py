"""Samples to plan with where the data is out of reach: as large as the config lets them be."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

from data.errors import InputError, SampleError
from data.sample import Sample
from data.seeds import generator
from modalities.prepare import Item, Prepare, Sides

_CHARACTERS = 12
"""Of a token, more than any has in the mean."""


def stand_in(prepare: Prepare) -> Item:
    """A prepared sample of noise: texts of ``max_tokens``, pictures of ``image_size``, sounds of ``max_seconds``.

    Raises:
        InputError: the task prepares something else.
    """
    parts = prepare.sides.values() if isinstance(prepare, Sides) else [prepare]
    members: dict[str, bytes] = {}
    for part in parts:
        members |= _member(part)
    try:
        return prepare(Sample("", "stand-in", members), generator(0, "stand-in"), True)
    except SampleError as error:
        raise InputError(f"no sample of the size that the config states can be made: {error}") from None


def _member(part: Any) -> dict[str, bytes]:
    draw = np.random.default_rng(0)
    if hasattr(part, "max_tokens"):
        letters = draw.integers(ord("a"), ord("z") + 1, _CHARACTERS * part.max_tokens, dtype=np.uint8)
        letters[3::4] = ord(" ")
        return {part.source.member: _text(letters.tobytes().decode(), part.source)}
    file = io.BytesIO()
    if hasattr(part, "image_size"):
        from PIL import Image

        side = max(part.image_size, part.min_side)
        Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, "PNG")
        return {"png": file.getvalue()}
    if hasattr(part, "max_seconds"):
        import soundfile

        rate = part.sample_rates[0] if part.sample_rates else part.sample_rate
        soundfile.write(file, 0.1 * draw.standard_normal(round(part.max_seconds * rate)), rate, format="WAV")
        return {"wav": file.getvalue()}
    raise InputError(f"{type(part).__name__} does not state how large its samples are")


def _text(text: str, source: Any) -> bytes:
    """``text`` where ``source`` looks for it: as it is, or in a JSON member."""
    if not source.json:
        return text.encode()
    value: Any = text
    for key in reversed(source.path):
        value = [value] if key.isdigit() else {key: value}
    return json.dumps(value).encode()

"""What a person can look at, read or listen to of a prepared sample: small, of known size."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

SIDE = 56
"""Pixels of a picture's sides."""
CHARACTERS = 160
"""Of a text, at most."""


class View(TypedDict, total=False):
    """What there is of it. A prepare that can say has a method ``view(item) -> View``.

    Attributes:
        picture: (SIDE, SIDE, 3) uint8.
        text: of at most :data:`CHARACTERS` characters.
        sound: bytes of a FLAC file, of a few seconds.
    """

    picture: np.ndarray
    text: str
    sound: bytes


def shortened(text: str) -> str:
    """``text`` on one line, cut off where it becomes too long."""
    line = " ".join(text.split())
    return line if len(line) <= CHARACTERS else line[: CHARACTERS - 1] + "…"

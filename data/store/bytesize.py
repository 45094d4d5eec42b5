"""Numbers of bytes as people write them."""

from __future__ import annotations

import re

from data.errors import InputError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_size(text: str | int, name: str = "cache.max_size") -> int:
    """Bytes of ``"50GB"``, ``"500 MiB"`` or a number.

    Args:
        text: what somebody wrote.
        name: of what it was written for, for the message.

    Raises:
        InputError: it is none of these.
    """
    hit = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", str(text).upper())
    if hit is None or hit[2] not in _UNITS or float(hit[1]) * _UNITS[hit[2]] < 1:
        raise InputError(f"{name} '{text}' is no size; write e.g. 50GB, 500MB, 2TiB or a number of bytes")
    return int(float(hit[1]) * _UNITS[hit[2]])

"""Held-out samples as the model sees them, as plain values of bounded size: for the report. Imports no torch."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modalities.view import SIDE, View
from pretrain.evaluation.shown import Exhibit, encoded

MOST = 1_200_000
"""Bytes of it as JSON. Sounds that would make it larger are left out, then pictures."""
COLUMNS = 16
_SOUNDS = 10
_QUALITY = 72


def exhibit(
    modalities: Mapping[str, str],
    views: Sequence[Mapping[str, View]],
    labels: Sequence[str],
    maps: Sequence[Mapping[str, Any]],
    retrievals: Sequence[Mapping[str, Any]],
) -> Exhibit:
    """Puts it together.

    Args:
        modalities: side -> modality of its encoder.
        views: of N samples, side -> what there is to look at.
        labels: N classes, "" where there are none.
        maps: ``{"side", "share", "points": N pairs of numbers between 0 and 1000}``.
        retrievals: ``{"from", "to": sides, "rows": [[query, found, ...]]}``, numbers of samples, the best found first.
    """
    wanted = [n for one in retrievals for row in one["rows"] for n in _heard(one, row, modalities)]
    found: Exhibit = {"modalities": dict(modalities), "samples": len(views)}
    found["labels"] = list(labels) if any(labels) else []
    found["texts"] = {side: [view[side].get("text", "") for view in views] for side in modalities}
    found["sheets"] = {side: one for side in modalities if (one := sheet([view[side] for view in views]))}
    found["sounds"] = _sounds(modalities, views, list(dict.fromkeys(wanted)))
    found |= {"maps": list(maps), "retrievals": list(retrievals)}
    for part in ("sounds", "sheets"):
        if len(encoded(found)) > MOST:
            found[part] = {}
    return found


def _heard(retrieval: Mapping[str, Any], row: Sequence[int], modalities: Mapping[str, str]) -> list[int]:
    """Of a row, the samples whose sound one wants to hear: the query's, and what was found first."""
    query = row[:1] if modalities[retrieval["from"]] == "audio" else []
    return [*query, *(row[1:2] if modalities[retrieval["to"]] == "audio" else [])]


def sheet(views: Sequence[View]) -> str:
    """All pictures on one, :data:`COLUMNS` in a row: a JPEG in base 64; "" where there are none."""
    from PIL import Image

    if not any("picture" in view for view in views):
        return ""
    rows = -(-len(views) // COLUMNS)
    whole = np.zeros((rows * SIDE, COLUMNS * SIDE, 3), np.uint8)
    for number, view in enumerate(views):
        row, column = divmod(number, COLUMNS)
        if "picture" in view:
            whole[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE] = view["picture"]
    file = io.BytesIO()
    Image.fromarray(whole).save(file, "JPEG", quality=_QUALITY)
    return b64encode(file.getvalue()).decode()


def _sounds(
    modalities: Mapping[str, str], views: Sequence[Mapping[str, View]], wanted: Sequence[int]
) -> dict[str, str]:
    """Number of a sample -> FLAC in base 64, of the first that are wanted."""
    sides = [side for side, modality in modalities.items() if modality == "audio"]
    having = [(n, views[n][sides[0]]) for n in wanted if sides and "sound" in views[n][sides[0]]]
    return {str(n): b64encode(view["sound"]).decode() for n, view in having[:_SOUNDS]}

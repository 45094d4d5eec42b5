"""Held-out samples: maps of their embeddings, and what the model finds for them, to look at and to listen to.

All pictures of a side are one picture, a sheet, that every thumbnail shows a part of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from pretrain.evaluation.shown import Exhibit
from pretrain.report.axis import SIDE
from pretrain.report.document import script_json

COLUMNS = 16
"""Pictures in a row of a sheet; see :mod:`pretrain.evaluation.exhibit`."""
BUDGET = 2_000_000
"""Bytes that all galleries of a page may take; what would go beyond is named and left out."""
_CLASSES = 6
_LOOKS = tuple(f"class{number}" for number in range(_CLASSES))


def galleries(shown: Iterable[Exhibit]) -> str:
    """The section of all galleries, "" where there are none."""
    parts, left_out, room = [], [], BUDGET
    for number, one in enumerate(sorted(shown, key=lambda one: -len(one["modalities"]))):
        part = _gallery(number, one)
        if len(part) <= room:
            parts.append(part)
            room -= len(part)
        else:
            left_out.append(str(one["name"]))
    if left_out:
        parts.append(f"<p>Left out, as the page would become too large: {escape(', '.join(left_out))}.</p>")
    if not parts:
        return ""
    about = "held-out samples by the model's own features; point at a map to see what lies there"
    return f"<section><h2>What it sees</h2><p>{about}</p>{''.join(parts)}</section>"


def _gallery(number: int, one: Exhibit) -> str:
    sides = ", ".join(one["modalities"])
    sheets = "".join(
        f"--sheet-{place}:url(data:image/jpeg;base64,{one['sheets'][side]});"
        for place, side in enumerate(one["modalities"])
        if side in one["sheets"]
    )
    sounds = "".join(
        f'<audio id="sound-{number}-{int(sample)}" preload="none" '
        f'src="data:audio/flac;base64,{escape(content)}"></audio>'
        for sample, content in one["sounds"].items()
    )
    cells = _Cells(number, one)
    maps = "".join(_map(one, drawn) for drawn in one["maps"])
    found = "".join(_retrieval(cells, retrieval) for retrieval in one["retrievals"])
    data = {
        "columns": COLUMNS,
        "rows": -(-one["samples"] // COLUMNS),
        "sides": [
            {"sheet": place if side in one["sheets"] else None, "texts": one["texts"].get(side, [])}
            for place, side in enumerate(one["modalities"])
        ],
        "labels": one["labels"],
    }
    return (
        f'<div class="gallery" style="{sheets}"><h3>{escape(sides)}<small>after step {one["step"]:,}</small></h3>'
        f'<script type="application/json" class="samples">{script_json(data)}</script>{sounds}'
        f'<div class="charts">{maps}</div><div class="hits">{found}</div></div>'
    )


def _map(one: Exhibit, drawn: Mapping[str, Any]) -> str:
    """A figure of points; samples of one class look alike."""
    classes = sorted(set(one["labels"]), key=lambda label: (-one["labels"].count(label), label))
    looks = {label: _LOOKS[min(n, _CLASSES - 1)] for n, label in enumerate(classes)}
    paths: dict[str, list[str]] = {}
    for number, (x, y) in enumerate(drawn["points"]):
        look = looks[one["labels"][number]] if looks else _LOOKS[0]
        paths.setdefault(look, []).append(f"M{x} {SIDE - y}h.01")
    shapes = "".join(f'<path class="{look} dots" d="{"".join(dots)}"/>' for look, dots in sorted(paths.items()))
    legend = [(looks[label], label) for label in classes[: _CLASSES - 1]]
    if len(classes) >= _CLASSES:
        legend.append((_LOOKS[-1], classes[-1] if len(classes) == _CLASSES else "others"))
    items = "".join(f'<li><i class="{look}"></i>{escape(label)}</li>' for look, label in legend)
    points = [[x, SIDE - y] for x, y in drawn["points"]]
    side = str(drawn["side"])
    return (
        f'<figure class="chart map"><figcaption>{escape(side)}'
        f"<b>{100 * drawn['share']:.0f} % of the variance</b></figcaption>"
        f'<div class="plot"><svg viewBox="0 0 {SIDE} {SIDE}" preserveAspectRatio="none" role="img" '
        f'aria-label="map of {len(points)} embeddings: {escape(side)}">{shapes}</svg></div>'
        f'{f"<ul>{items}</ul>" if items else ""}<script type="application/json">{script_json(points)}</script></figure>'
    )


class _Cells:
    """Samples as parts of a row, with ids of the gallery ``number``."""

    def __init__(self, number: int, one: Exhibit) -> None:
        self.number, self.one, self.sides = number, one, list(one["modalities"])
        self.rows = -(-one["samples"] // COLUMNS)

    def html(self, side: str, sample: int, right: bool | None = None) -> str:
        """What there is of a sample's side; ``right`` marks what was found."""
        parts = []
        if side in self.one["sheets"]:
            row, column = divmod(sample, COLUMNS)
            place = f"{100 * column / (COLUMNS - 1):.2f}% {100 * row / max(1, self.rows - 1):.2f}%"
            look = f"background-image:var(--sheet-{self.sides.index(side)});background-position:{place}"
            parts.append(f'<i class="thumb" style="{look};background-size:{100 * COLUMNS}% {100 * self.rows}%"></i>')
        if self.one["modalities"][side] == "audio" and str(sample) in self.one["sounds"]:
            parts.append(f'<button data-sound="sound-{self.number}-{sample}" aria-label="play">▶</button>')
        texts = self.one["texts"].get(side) or []
        text = texts[sample] if sample < len(texts) else ""
        label = self.one["labels"][sample] if self.one["labels"] else ""
        for line in filter(None, (text, label)):
            parts.append(f"<span>{escape(line)}</span>")
        look = "cell" if right is None else "cell right" if right else "cell found"
        return f'<div class="{look}">{"".join(parts) or f"<span>sample {sample}</span>"}</div>'


def _retrieval(cells: _Cells, one: Mapping[str, Any]) -> str:
    source, target, labels = one["from"], one["to"], cells.one["labels"]

    def right(query: int, found: int) -> bool:
        if labels:
            return bool(labels[query] == labels[found])
        return query == found

    known = source != target or bool(labels)  # else nothing says what should be found
    rows = "".join(
        f'<div class="hit">{cells.html(source, query)}<b>→</b>'
        + "".join(cells.html(target, one_, right(query, one_) if known else False) for one_ in found)
        + "</div>"
        for query, *found in one["rows"]
    )
    title = f"{escape(source)} → {escape(target)}" if source != target else f"nearest to a {escape(source)}"
    return f"<details open><summary>{title}{_told(one['rows'], right) if known else ''}</summary>{rows}</details>"


def _told(rows: Sequence[Sequence[int]], right: Any) -> str:
    first = sum(bool(right(query, found[0])) for query, *found in rows if found)
    return f"<small>{first} of {len(rows)} right at the first place</small>"

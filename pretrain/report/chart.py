"""A figure: an inline drawing that stretches with the page, its labels as text that does not.

The drawing has the same units whatever its size on the screen; lines keep their width (``non-scaling-stroke``). All
numbers that a reader may point at travel with it as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from pretrain.report.axis import SIDE, Axis, words
from pretrain.report.curve import Curve
from pretrain.report.document import script_json


@dataclass(frozen=True)
class Line:
    """A curve with its name and how it is drawn.

    Attributes:
        name: in the legend.
        curve: what is drawn.
        look: class of the style sheet: ``train``, ``held0`` to ``held3``, ``reference``.
        dots: mark each value, as where they are few.
        faint: show the single values behind a smooth line.
    """

    name: str
    curve: Curve
    look: str
    dots: bool = False
    faint: bool = True


@dataclass(frozen=True)
class Band:
    """What healthy runs have: ``low`` and ``high`` at ``steps``, None where there is no bound."""

    steps: Sequence[float]
    low: Sequence[float | None]
    high: Sequence[float | None]


@dataclass(frozen=True)
class Chart:
    """One figure.

    Attributes:
        title: above it.
        lines: at least one.
        chance: (name, value) of lines that guessing would give.
        band: see :class:`Band`.
        marks: (step, text) of what happened.
        until: last step of the run, so that all figures have the same width of steps.
        unit: behind numbers.
        log: whether the values may be shown in powers.
        legend: whether lines are named below, and the first one's value stands above; else the page names them.
    """

    title: str
    lines: Sequence[Line]
    chance: Sequence[tuple[str, float]] = ()
    band: Band | None = None
    marks: Sequence[tuple[int, str]] = ()
    until: int = 0
    unit: str = ""
    log: bool = True
    legend: bool = True

    def html(self) -> str:
        """The ``<figure>``."""
        across = Axis([0, self.until, *(line.curve.steps[-1] for line in self.lines)], False, 0)
        up = Axis(self._values(across.high), self.log)
        drawn = [*self._grid(across, up), *self._band(across, up)]
        drawn += [f'<path class="mark" d="M{across.at(step):.1f} 0V{SIDE}"/>' for step, _ in self.marks]
        for _, value in self.chance:
            drawn.append(f'<path class="chance" d="M0 {SIDE - up.at(value):.1f}H{SIDE}"/>')
        for line in self.lines:
            drawn += _drawn(line, across, up)
        labels = [f'<span class="y" style="bottom:{p / 10:.1f}%">{escape(t)}</span>' for p, t in up.ticks()]
        labels += [f'<span class="x" style="left:{p / 10:.1f}%">{escape(t)}</span>' for p, t in across.ticks()]
        said = ", ".join(f"{line.name} {words(line.curve.last)}{self.unit}" for line in self.lines)
        return (
            f'<figure class="chart" data-unit="{escape(self.unit)}"><figcaption>{escape(self.title)}'
            f"<b>{words(self.lines[0].curve.last) + escape(self.unit) if self.legend else ''}</b></figcaption>"
            f'<div class="plot"><svg viewBox="0 0 {SIDE} {SIDE}" preserveAspectRatio="none" role="img" '
            f'aria-label="{escape(self.title)}: {escape(said)}">{"".join(drawn)}</svg>{"".join(labels)}</div>'
            f'{self._legend()}<script type="application/json">{self._points(across, up)}</script></figure>'
        )

    def _values(self, last: float) -> list[float]:
        values = [v for line in self.lines for v in (line.curve.smooth or line.curve.values)]
        # Single rows that jump far out (the first steps, mostly) are cut off rather than flatten all else.
        for line in self.lines:
            if line.curve.smooth and line.faint:
                ordered = sorted(line.curve.values)
                spare = len(ordered) // 50
                values += ordered[spare : len(ordered) - spare]
        values += [value for _, value in self.chance]
        if self.band is not None:
            bounds = zip(self.band.steps, self.band.low, self.band.high, strict=True)
            values += [v for step, *both in bounds if step <= last for v in both if v is not None]
        return values

    def _grid(self, across: Axis, up: Axis) -> Iterable[str]:
        yield from (f'<path class="grid" d="M0 {SIDE - place:.1f}H{SIDE}"/>' for place, _ in up.ticks())
        yield f'<path class="axis" d="M0 {SIDE}H{SIDE}"/>'

    def _band(self, across: Axis, up: Axis) -> Iterable[str]:
        if self.band is None:
            return
        points = [p for p in zip(self.band.steps, self.band.low, self.band.high, strict=True) if p[0] <= across.high]
        if not points:
            return
        points.append((across.high, *points[-1][1:]))  # the last bounds hold from there on
        lower = [(across.at(s), SIDE - up.at(low) if low is not None else SIDE) for s, low, _ in points]
        upper = [(across.at(s), SIDE - up.at(high) if high is not None else 0.0) for s, _, high in points]
        yield f'<path class="band" d="{_path(lower + upper[::-1])}Z"/>'

    def _legend(self) -> str:
        if not self.legend:
            return ""
        items = [(line.look, line.name) for line in self.lines]
        items += [("chance", f"{name} {words(value)}") for name, value in self.chance]
        items += [("band", "band of healthy runs")] if self.band is not None else []
        shown = "".join(f'<li><i class="{look}"></i>{escape(name)}</li>' for look, name in items)
        return f"<ul>{shown}</ul>" if len(items) > 1 else ""

    def _points(self, across: Axis, up: Axis) -> str:
        """What pointing at the figure shows: name, look and (place, height, step, value) of each line."""
        lines = []
        for line in self.lines:
            shown = line.curve.smooth or line.curve.values
            points = [
                [round(across.at(s)), round(SIDE - up.at(v)), round(s), words(v)]
                for s, v in zip(line.curve.steps, shown, strict=True)
            ]
            lines.append({"name": line.name, "look": line.look, "points": points})
        marks = [[round(across.at(step)), text] for step, text in self.marks]
        return script_json({"lines": lines, "marks": marks})


def _drawn(line: Line, across: Axis, up: Axis) -> Iterable[str]:
    def path(values: Sequence[float]) -> str:
        points = zip(line.curve.steps, values, strict=True)
        return _path([(across.at(step), SIDE - up.at(value)) for step, value in points])

    if line.curve.smooth and line.faint:
        yield f'<path class="{line.look} faint" d="{path(line.curve.values)}"/>'
    shown = line.curve.smooth or line.curve.values
    if len(shown) > 1:
        yield f'<path class="{line.look}" d="{path(shown)}"/>'
    if line.dots or len(shown) == 1:
        # A line without length and with round ends is a dot that no stretching deforms.
        dots = "".join(
            f"M{across.at(step):.1f} {SIDE - up.at(value):.1f}h.01"
            for step, value in zip(line.curve.steps, shown, strict=True)
        )
        yield f'<path class="{line.look} dots" d="{dots}"/>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)

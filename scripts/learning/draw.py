"""A pair of curves as a drawing that stands for itself, on light and on dark pages."""

from __future__ import annotations

import math
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, TOP, PANEL, SIDE = 760, 300, 56, 44, 300, 200
GAP = WIDTH - 2 * PANEL - LEFT - 16
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#57606a}.t{font-weight:600;fill:#24292f}path{fill:none}"
    ".g{stroke:#d0d7de;stroke-width:1}.o{stroke:#0969da;stroke-width:2.2}.p{stroke:#bc4c00;stroke-width:2.2}"
    ".fo{fill:#0969da}.fp{fill:#bc4c00}"
    "@media(prefers-color-scheme:dark){text{fill:#8b949e}.t{fill:#e6edf3}.g{stroke:#30363d}.o{stroke:#58a6ff}"
    ".p{stroke:#f0883e}.fo{fill:#58a6ff}.fp{fill:#f0883e}}"
)


def svg(found: dict[str, Any]) -> str:
    """Held-out loss by samples and by CPU seconds."""
    low, high = bounds(found)
    named = (("samples", "samples"), ("cpu_s", "CPU seconds of learning"))
    panels = [panel(found, along, words, LEFT + i * (PANEL + GAP), low, high) for i, (along, words) in enumerate(named)]
    peer = escape(found["peer"].replace("`", "").split(",")[0])
    legend = (
        f'<text class="t" x="{LEFT}" y="18">Held-out loss: {escape(found["name"])}</text>'
        f'<text class="fo" x="{WIDTH - 300}" y="18">ours</text><text class="fp" x="{WIDTH - 250}" y="18">{peer}</text>'
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    return f"{head}<style>{STYLE}</style>{legend}{''.join(panels)}</svg>\n"


def bounds(found: dict[str, Any]) -> tuple[float, float]:
    losses = found["ours"]["loss"] + found["theirs"]["loss"]
    room = 0.04 * (max(losses) - min(losses))
    return min(losses) - room, max(losses) + room


def panel(found: dict[str, Any], along: str, words: str, left: float, low: float, high: float) -> str:
    last = max(found["ours"][along][-1], found["theirs"][along][-1])

    def x(value: float) -> float:
        return left + PANEL * value / last

    def y(value: float) -> float:
        return TOP + SIDE * (high - value) / (high - low)

    out = []
    for value in ticks(low, high):
        out.append(f'<path class="g" d="M{left} {y(value):.1f}h{PANEL}"/>')
        out.append(f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in ticks(0, last):
        out.append(f'<text x="{x(value):.1f}" y="{TOP + SIDE + 18}" text-anchor="middle">{value:,g}</text>')
    out.append(f'<text x="{left + PANEL / 2}" y="{TOP + SIDE + 40}" text-anchor="middle">{words}</text>')
    for side, look in (("theirs", "p"), ("ours", "o")):
        curve = found[side]
        points = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in zip(curve[along], curve["loss"], strict=True))
        out.append(f'<path class="{look}" d="M{points}"/>')
    return "".join(out)


def ticks(low: float, high: float) -> list[float]:
    """About four round numbers between the two."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough)
    first = int(low // step) + 1 if low > 0 else 0
    return [round(n * step, 9) for n in range(first, int(high // step) + 1)]

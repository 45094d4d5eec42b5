"""Draws a demo scene: 48x48 RGB, bright flat shapes on a dark ground."""

from __future__ import annotations

import colorsys
import io
import math

import numpy as np
from PIL import Image, ImageDraw

from data.demo.scene import Scene, Thing

SIDE = 48
_ZOOM = 4  # shapes are drawn this much larger and shrunk, so that their edges are smooth
_EXTENT = {"small": 11.5, "large": 19.0}
# From one shape's centre to the next one's, along the region's long side and its short one.
_STEP = {"small": (14.0, 13.0), "large": (22.0, 22.0)}
_CENTRE = {
    "left": (12.0, 24.0),
    "right": (36.0, 24.0),
    "top": (24.0, 12.0),
    "bottom": (24.0, 36.0),
    "centre": (24.0, 24.0),
}
_HUE = {
    "red": (0.0, 1.0, 0.95),
    "orange": (0.085, 1.0, 1.0),
    "yellow": (0.16, 0.9, 1.0),
    "green": (0.36, 0.95, 0.7),
    "cyan": (0.5, 0.9, 1.0),
    "blue": (0.645, 0.9, 1.0),
    "purple": (0.775, 0.85, 0.75),
    "pink": (0.92, 0.4, 1.0),
}

Points = list[tuple[float, float]]


def png(scene: Scene) -> bytes:
    """The picture of ``scene`` as a PNG of SIDE x SIDE RGB pixels."""
    rng = scene.randomness("picture")
    ground = np.round(rng.uniform(18, 52) + rng.uniform(-8, 8, 3)).astype(int)
    canvas = Image.new("RGB", (SIDE * _ZOOM, SIDE * _ZOOM), tuple(ground.tolist()))
    draw = ImageDraw.Draw(canvas)
    for thing, region in scene.placed():
        colour = _colour(thing.colour, rng)
        extent = _EXTENT[thing.size] * rng.uniform(0.95, 1.0)
        for x, y in _centres(thing, region, rng):
            _shape(draw, thing.shape, x * _ZOOM, y * _ZOOM, extent * _ZOOM / 2, colour, tuple(ground.tolist()))
    buffer = io.BytesIO()
    canvas.reduce(_ZOOM).save(buffer, "png")
    return buffer.getvalue()


def _colour(name: str, rng: np.random.Generator) -> tuple[int, int, int]:
    hue, saturation, value = _HUE[name]
    jittered = (hue + rng.uniform(-0.012, 0.012)) % 1, saturation * rng.uniform(0.92, 1), value * rng.uniform(0.92, 1)
    red, green, blue = colorsys.hsv_to_rgb(*jittered)
    return round(red * 255), round(green * 255), round(blue * 255)


def _centres(thing: Thing, region: str, rng: np.random.Generator) -> Points:
    """Centres of the thing's shapes, pixels: up to three in a line along the region's long side, four in two rows."""
    along, across = _STEP[thing.size]
    if thing.count == 4:
        spots = [((i - 0.5) * along, (j - 0.5) * across) for i in range(2) for j in range(2)]
    else:
        spots = [((i - (thing.count - 1) / 2) * along, 0.0) for i in range(thing.count)]
    if region in ("left", "right"):
        spots = [(short, long) for long, short in spots]
    extent = _EXTENT[thing.size] / 2
    x, y = _CENTRE[region]
    # The group moves as one, and never so far that a shape leaves the picture or comes into the other half.
    dx, dy = (_slack(x, [s[0] for s in spots], extent), _slack(y, [s[1] for s in spots], extent))
    x, y = x + rng.uniform(-dx, dx), y + rng.uniform(-dy, dy)
    return [(x + sx, y + sy) for sx, sy in spots]


def _slack(middle: float, offsets: list[float], extent: float) -> float:
    """How far a group may move to either side, pixels."""
    room = min(middle, SIDE - middle) - max(offsets) - extent
    return min(3.0, max(0.3, room - 0.8))


def _shape(
    draw: ImageDraw.ImageDraw,
    shape: str,
    x: float,
    y: float,
    radius: float,
    colour: tuple[int, int, int],
    ground: tuple[int, ...],
) -> None:
    def box(scale: float) -> tuple[float, float, float, float]:
        return x - radius * scale, y - radius * scale, x + radius * scale, y + radius * scale

    if shape == "circle":
        draw.ellipse(box(1), fill=colour)
    elif shape == "ring":
        draw.ellipse(box(1), fill=colour)
        draw.ellipse(box(0.5), fill=ground)
    elif shape == "square":
        draw.rectangle(box(0.9), fill=colour)
    else:
        draw.polygon([(x + radius * px, y + radius * py) for px, py in _OUTLINES[shape]], fill=colour)


def _star() -> Points:
    turns = [(math.pi * k / 5 - math.pi / 2, 1.08 if k % 2 == 0 else 0.42) for k in range(10)]
    return [(r * math.cos(a), r * math.sin(a)) for a, r in turns]


def _cross(arm: float = 0.32) -> Points:
    corner = [(-arm, -0.95), (arm, -0.95), (arm, -arm)]
    return [_quarter_turns(px, py, k) for k in range(4) for px, py in corner]


def _quarter_turns(px: float, py: float, times: int) -> tuple[float, float]:
    for _ in range(times):
        px, py = -py, px
    return px, py


def _heart() -> Points:
    turns = [2 * math.pi * k / 40 for k in range(40)]
    curve = [(16 * math.sin(a) ** 3, -13 * math.cos(a) + 5 * math.cos(2 * a) + 2 * math.cos(3 * a)) for a in turns]
    return [(px / 16, (py - 2.0) / 15) for px, py in curve]


_OUTLINES: dict[str, Points] = {
    "triangle": [(0.0, -1.0), (1.0, 0.9), (-1.0, 0.9)],
    "diamond": [(0.0, -1.05), (0.7, 0.0), (0.0, 1.05), (-0.7, 0.0)],
    "star": _star(),
    "cross": _cross(),
    "heart": _heart(),
}

"""Curves of healthy runs that a run's alarms compare it with; see ``modalities/audio/reference``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pretrain.report.chart import Band, Line
from pretrain.report.curve import Curve

_SHIPPED = resources.files("modalities.audio") / "reference"


def references(config: Mapping[str, Any]) -> dict[tuple[str, str], tuple[Line, Band]]:
    """(task, metric) -> the curve and the band of healthy runs, for every alarm of the config that names one."""
    found: dict[tuple[str, str], tuple[Line, Band]] = {}
    for alarm in (config.get("alarms") or {}).values():
        if not isinstance(alarm, Mapping) or "reference" not in alarm or "task" not in alarm:
            continue
        for metric, curve in _metrics(str(alarm["reference"])).items():
            try:
                steps, values = [float(s) for s in curve["steps"]], [float(v) for v in curve["value"]]
                line = Line(
                    f"healthy runs ({Path(str(alarm['reference'])).stem})", Curve(steps, values, []), "reference"
                )
                found[alarm["task"], metric] = line, Band(steps, curve["low"], curve["high"])
            except (KeyError, TypeError, ValueError):
                continue  # an own file may do without a curve; the alarm has checked what it needs
    return found


def until(line: Line, step: int) -> Line | None:
    """``line`` up to ``step``, so that a young run is not squeezed into a corner; None where nothing is left."""
    count = sum(s <= step for s in line.curve.steps)
    if not count:
        return None
    return Line(line.name, Curve(line.curve.steps[:count], line.curve.values[:count], []), line.look)


def _metrics(reference: str) -> Mapping[str, Any]:
    path = Path(reference).expanduser()
    source: Any = path if path.is_file() else _SHIPPED / f"{reference}.json"
    try:
        found = json.loads(source.read_text())["metrics"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, Mapping) else {}

"""Says when a run leaves the band in which a healthy one of its kind lies: wav2vec 2.0's codes collapse quietly.

A reference is JSON, made by ``scripts/reference_curve.py`` from runs that went well: for each metric the values at some
steps, and the lowest and highest that still count as healthy there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from data.errors import InputError, choices
from pretrain.callbacks.band import Band, BandAlarm
from pretrain.callbacks.metrics import Metrics
from pretrain.run import RunDirectory
from pretrain.soundness.incidents import Incidents
from pretrain.soundness.policies import WARN

_SHIPPED = resources.files("modalities.audio") / "reference"


class Collapse(BandAlarm):
    """Compares with a reference curve; see :class:`pretrain.callbacks.band.BandAlarm`.

    Args:
        directory: of the run.
        metrics: the callback that has written the step's row; this one must come behind it.
        incidents: where to report.
        task: whose metrics.
        reference: name of a shipped curve, or path of a JSON file.
        window: rows of ``metrics.jsonl`` that are averaged.
        policy: ``warn``, ``skip``, ``rewind`` or ``stop``.

    Raises:
        InputError: there is no such reference, or it cannot be read.
    """

    def __init__(
        self,
        directory: RunDirectory,
        metrics: Metrics,
        incidents: Incidents,
        task: str,
        reference: str,
        window: int = 20,
        policy: str = WARN,
    ) -> None:
        super().__init__(directory, metrics, incidents, task, read_bands(reference), window, policy)
        self.healthy = f"healthy runs ({reference}) have"


def read_bands(reference: str) -> dict[str, Band]:
    """Metric -> band of the shipped curve ``reference``, or of the JSON file of that path.

    Raises:
        InputError: it is not there or no reference.
    """
    path = Path(reference).expanduser()
    shipped = {entry.name.removesuffix(".json") for entry in _SHIPPED.iterdir() if entry.name.endswith(".json")}
    if not path.is_file() and reference not in shipped:
        raise InputError(f"reference '{reference}' is neither a file nor shipped; {choices(reference, shipped)}")
    source = _SHIPPED / f"{reference}.json" if reference in shipped else path
    try:
        found = {name: _band(curve) for name, curve in json.loads(source.read_text())["metrics"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"reference '{reference}' is no reference curve: {type(error).__name__}: {error}") from None
    if not found:
        raise InputError(f"reference '{reference}' has no metrics")
    return found


def _band(curve: Mapping[str, Any]) -> Band:
    steps = tuple(int(step) for step in curve["steps"])
    low, high = (tuple(float("nan") if v is None else float(v) for v in curve[side]) for side in ("low", "high"))
    if not steps or sorted(set(steps)) != list(steps) or not len(steps) == len(low) == len(high):
        raise ValueError("steps must ascend, with one low and one high each")
    return Band(steps, low, high)

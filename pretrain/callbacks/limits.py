"""Says when a metric passes a limit: a temperature at its clamp, embeddings that have lost their dimensions."""

from __future__ import annotations

import math

from data.errors import InputError
from pretrain.callbacks.band import Band, BandAlarm
from pretrain.callbacks.metrics import Metrics
from pretrain.run import RunDirectory
from pretrain.soundness.incidents import Incidents
from pretrain.soundness.policies import WARN


class Limits(BandAlarm):
    """Compares with limits that hold from a step on; see :class:`pretrain.callbacks.band.BandAlarm`.

    Args:
        directory: of the run.
        metrics: the callback that has written the step's row; this one must come behind it.
        incidents: where to report.
        task: whose metric.
        metric: as in ``metrics.jsonl`` behind the task's name.
        low: the least that is healthy; None: anything.
        high: the most that is healthy; None: anything.
        from_step: before it nothing is said; untrained encoders look collapsed.
        window: rows of ``metrics.jsonl`` that are averaged.
        policy: ``warn``, ``skip``, ``rewind`` or ``stop``.

    Raises:
        InputError: neither limit is given, or the lower one is above the upper one.
    """

    def __init__(
        self,
        directory: RunDirectory,
        metrics: Metrics,
        incidents: Incidents,
        task: str,
        metric: str,
        low: float | None = None,
        high: float | None = None,
        from_step: int = 1,
        window: int = 20,
        policy: str = WARN,
    ) -> None:
        if low is None and high is None:
            raise InputError(f"neither low nor high is given for '{metric}'")
        if low is not None and high is not None and low > high:
            raise InputError(f"low={low} is above high={high}")
        bounds = [(math.nan if bound is None else float(bound),) for bound in (low, high)]
        band = Band((from_step,), *bounds)
        super().__init__(directory, metrics, incidents, task, {metric: band}, window, policy)

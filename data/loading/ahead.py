"""Has the shards that coming steps need transferred before a worker asks for them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import numpy as np

from data.stream import Stream

_EVERY_S = 2.0  # windows of shards last minutes


class Ahead:
    """Asks the stores of remote shards for what this rank's share of the next steps needs.

    Args:
        streams: task -> its stream.
    """

    def __init__(self, streams: Mapping[str, Stream]) -> None:
        self.streams = {task: stream for task, stream in streams.items() if stream.remote}
        self._next = -math.inf
        self._asked: list[str] = []

    def look(self, step: int, positions: Callable[[str, int], np.ndarray]) -> None:
        """Called at each step; every few seconds it asks ``positions`` (task, step) what this rank prepares then."""
        if not self.streams or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY_S
        needed: dict[str, None] = {}
        for task, stream in self.streams.items():
            needed.update(dict.fromkeys(stream.needed(positions(task, step))))
        if list(needed) != self._asked:
            self._asked = list(needed)
            for store in {id(s.store): s.store for s in self.streams.values()}.values():
                store.prefetch(self._asked)

"""How long a step takes, where it is computed."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Times one piece of work after another; a CUDA device works on after the host has said what is to be done."""

    def __init__(self) -> None:
        self._began = self.host = 0.0
        self._events: tuple[torch.cuda.Event, torch.cuda.Event] | None = None

    def begin(self, device: torch.device) -> None:
        """The work begins, on ``device``."""
        self._events = None
        if device.type == "cuda":
            self._events = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            self._events[0].record()
        self._began = time.perf_counter()

    def end(self) -> None:
        """The host has done its part; ``host`` says in how many seconds."""
        self.host = time.perf_counter() - self._began
        if self._events is not None:
            self._events[1].record()

    def seconds(self) -> float:
        """Of the whole work; waits until the device has done it."""
        if self._events is None:
            return self.host
        begin, end = self._events
        end.synchronize()
        return max(self.host, begin.elapsed_time(end) / 1e3)

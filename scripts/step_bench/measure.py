"""What a step costs: wall and CPU seconds of rounds that take turns, and what a matrix product reaches meanwhile."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class Row:
    """One round of one side.

    Attributes:
        units: real tokens, pairs or seconds of sound that were learned from.
        useful: FLOPs that the method needs for them (see flops.py).
        wall, cpu: seconds.
        parts: wall seconds by part of the step.
        product: GFLOP a CPU second of a matrix product, measured just before and just after; their mean.
    """

    units: float
    useful: float
    wall: float = 0.0
    cpu: float = 0.0
    parts: Mapping[str, float] | None = None
    product: float = 0.0

    @property
    def share(self) -> float:
        """The rate of the useful FLOPs over that of a matrix product beside it, a CPU second each."""
        return self.useful / 1e9 / self.cpu / self.product


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Parts:
    """Wall seconds by name; on a device that runs behind the host they say when work was given, not done."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def begin(self) -> None:
        self._last = time.perf_counter()

    def end(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


def timed(work: Callable[[], Row], device: torch.device) -> Row:
    """``work`` with its wall and CPU seconds; all threads of the process count."""
    wait(device)
    wall, cpu = time.perf_counter(), time.process_time()
    row = work()
    wait(device)
    row.wall, row.cpu = time.perf_counter() - wall, time.process_time() - cpu
    return row


def interleaved(
    sides: Mapping[str, Callable[[], Row]], rounds: int, device: torch.device, dtype: torch.dtype
) -> tuple[dict[str, list[Row]], dict[str, float]]:
    """Each side once a round, in an order that rotates; between any two, what a matrix product reaches.

    A machine that others use changes its pace by a third within seconds, so each row has its own product.

    Returns:
        The rows of each side, and GFLOP a wall second and a CPU second of the product, the median of all.
    """
    names = list(sides)
    rows: dict[str, list[Row]] = {name: [] for name in names}
    peaks = [matmul_rate(device, dtype)]
    for number in range(rounds):
        for place in range(len(names)):
            name = names[(place + number) % len(names)]
            row = timed(sides[name], device)
            peaks.append(matmul_rate(device, dtype))
            row.product = (peaks[-2]["cpu"] + peaks[-1]["cpu"]) / 2
            rows[name].append(row)
    return rows, {kind: statistics.median(peak[kind] for peak in peaks) for kind in peaks[0]}


def matmul_rate(device: torch.device, dtype: torch.dtype, repeats: int = 3) -> dict[str, float]:
    """GFLOP a second of one large matrix product, ``wall`` and ``cpu``, the best of ``repeats``."""
    size = 8192 if device.type == "cuda" else 2048
    times = 20 if device.type == "cuda" else 1
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    out = a @ b
    best = {"wall": 0.0, "cpu": 0.0}
    for _ in range(repeats):

        def work() -> Row:
            for _ in range(times):
                torch.mm(a, b, out=out)
            return Row(1, times * 2.0 * size**3)

        row = timed(work, device)
        best = {
            "wall": max(best["wall"], row.useful / 1e9 / row.wall),
            "cpu": max(best["cpu"], row.useful / 1e9 / max(row.cpu, 1e-9)),
        }
    return best


def spread(values: Iterable[float]) -> dict[str, float]:
    """Least, median and most, to four digits."""
    found = sorted(values)
    named = {"min": found[0], "median": statistics.median(found), "max": found[-1]}
    return {name: float(f"{value:.4g}") for name, value in named.items()}


def machine(device: torch.device) -> dict[str, Any]:
    """What a reader needs to compare figures; no name and no path."""
    named = {"torch": torch.__version__, "threads": torch.get_num_threads(), "cores": len(os.sched_getaffinity(0))}
    named["instructions"] = torch.backends.cpu.get_cpu_capability()
    if device.type == "cuda":
        named["device"] = torch.cuda.get_device_name(device)
    return named | {"load": round(os.getloadavg()[0], 2)}

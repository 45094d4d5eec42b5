"""Where the time of our steps goes, and whether the host waits for the device inside one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from step_bench.case import Case
from step_bench.measure import Parts, wait
from step_bench.side import Side
from torch.profiler import ProfilerActivity, profile

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
TOP = 14


def profiled(case: Case, sides: dict[str, Side], folder: Path) -> list[dict[str, Any]]:
    """A row a side with its dearest operators and how often the host waited; the traces lie in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, side in sides.items():
        device = side.device
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
        samples = side.batches(side.number)
        wait(device)
        with profile(activities=activities) as found:
            side.learn(samples, Parts())
            wait(device)
        events = found.key_averages()
        on_device = device.type == "cuda"

        def cost(event: Any, on_device: bool = on_device) -> float:
            return event.self_device_time_total if on_device else event.self_cpu_time_total

        whole = sum(cost(event) for event in events) or 1.0
        top = sorted(events, key=cost, reverse=True)[:TOP]
        # The one wait at the end is the profile's own.
        waits = max(0, sum(event.count for event in events if event.key in WAITS) - on_device)
        found.export_chrome_trace(str(folder / f"{case.name}-{name}.json".replace(" ", "_").replace(",", "")))
        rows.append(
            {
                "what": "profile",
                "case": case.name,
                "side": name,
                "waits": waits,
                "operators": [[e.key, round(cost(e) / whole, 4), e.count] for e in top],
            }
        )
    return rows


def table(case: Case, rows: list[dict[str, Any]]) -> str:
    """The dearest operators of each side."""
    own = [row for row in rows if row["what"] == "profile" and row["case"] == case.name]
    return "\n".join(
        f"\n{row['side']}: the host waits {row['waits']} times in a step\n"
        + "\n".join(f"  {share:6.1%} {count:5d} x {name}" for name, share, count in row["operators"])
        for row in own
    )

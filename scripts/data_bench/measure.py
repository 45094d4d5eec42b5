"""What is measured of a loader: its steady rate and CPU, its first batch, its resume, the memory of its workers."""

from __future__ import annotations

import gc
import os
import time
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from data_bench.peers import Loader

_TICKS = os.sysconf("SC_CLK_TCK")
_PREFETCH = 2  # batches a worker is ahead, torch's default and ours


def descendants(pid: int) -> dict[int, list[str]]:
    """Live processes below ``pid`` -> the fields of /proc/PID/stat after the name."""
    parents: dict[int, list[int]] = {}
    stats: dict[int, list[str]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        stats[int(entry)] = fields
        parents.setdefault(int(fields[1]), []).append(int(entry))
    found, todo = {}, [pid]
    while todo:
        for child in parents.get(todo.pop(), []):
            found[child] = stats[child]
            todo.append(child)
    return found


def cpu_seconds() -> float:
    """CPU time of this process, its ended children and all live processes below it."""
    ended = os.times()
    alive = sum(int(fields[11]) + int(fields[12]) for fields in descendants(os.getpid()).values())
    return time.process_time() + ended.children_user + ended.children_system + alive / _TICKS


def worker_memory() -> dict[str, float]:
    """MB of the largest process below this one: rss, pss (shared pages split among their users) and private pages."""
    worst = {"rss": 0.0, "pss": 0.0, "private": 0.0}
    for pid in descendants(os.getpid()):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError):
            continue
        kilobytes = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
        private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
        now = {"rss": kilobytes["Rss"], "pss": kilobytes["Pss"], "private": private}
        worst = {name: max(value, now[name] / 1e3) for name, value in worst.items()}
    return worst


def _end(loader: Loader) -> None:
    loader.close()
    gc.collect()


def rate(loader: Loader, seconds: float) -> dict[str, Any]:
    """Samples a second and CPU microseconds a sample over ``seconds`` of steady work; seconds to the first batch.

    Not counted: the start and a quarter of ``seconds`` after it, what workers had prepared by then, and for loaders
    that end with an epoch the seam between two of them (its CPU time is). Anything else would measure how short the
    benchmark's epochs are, or how cold the caches of a process are that has just begun.
    """
    gc.collect()
    begun = time.perf_counter()
    batches = loader.open()
    first, samples, wall, cpu = 0.0, 0, 0.0, 0.0
    while wall < seconds:
        mark, counted = 0.0, 0
        for n, batch in enumerate(batches):
            if mark:
                counted, last = counted + loader.size(batch), time.perf_counter()
                if last - mark >= seconds - wall:
                    break
                continue
            now = time.perf_counter()
            if n == 0 and not first:
                first, ready = now - begun, now
            if n >= 2 * _PREFETCH * loader.workers and now - ready >= seconds / 4:
                mark_cpu = cpu_seconds()
                mark = last = time.perf_counter()
        if mark:
            wall += last - mark
            cpu += cpu_seconds() - mark_cpu
            samples += counted
        if wall < seconds:
            del batches
            _end(loader)
            batches = loader.open()
    memory = worker_memory() if loader.workers else {}
    del batches, batch
    _end(loader)
    return {
        "samples_per_s": samples / wall,
        "cpu_us_per_sample": cpu / samples * 1e6,
        "first_batch_s": first,
        **{f"worker_{name}_mb": value for name, value in memory.items()},
    }


def resume(loader: Loader, share: float = 0.8, repeats: int = 1) -> dict[str, Any]:
    """Seconds to the first batch from the beginning and from ``share`` of an epoch, and whether that is the right one.

    ``ratio`` is the median of those of one time each, one soon after the other. A fresh loader each time.
    The state is what the loader gave there in a run that was not interrupted.
    """
    at = int(loader.kind.samples * share) // loader.kind.batch
    batches = loader.open()
    for _ in range(at):
        next(batches)
    state = loader.state(at)
    expected = loader.key(next(batches))
    del batches
    _end(loader)
    times: dict[str, list[float]] = {"begin_s": [], "resume_s": []}
    exact = True
    for _ in range(repeats):
        for name, taken in times.items():
            begun = time.perf_counter()
            batches = loader.open() if name == "begin_s" else loader.resume(state)
            batch = next(batches)
            taken.append(time.perf_counter() - begun)
            exact &= name == "begin_s" or loader.key(batch) == expected
            del batches, batch
            _end(loader)
    pairs = [back / begin for begin, back in zip(times["begin_s"], times["resume_s"], strict=True)]
    return {name: median(taken) for name, taken in times.items()} | {"ratio": median(pairs), "exact": exact}


def mixing(loader: Loader, batches: int = 40) -> dict[str, float]:
    """How many shards a batch draws from on average; a perfect shuffle of S equal shards has S (1 - (1 - 1/S)^B)."""
    from data_bench.kinds import SHARDS

    each = loader.kind.samples / SHARDS
    stream = loader.open()
    found = [len({int(number / each) for number in loader.key(batch)}) for batch in islice(stream, batches)]
    del stream
    _end(loader)
    return {"shards_per_batch": sum(found) / len(found)}

"""What the order costs at scale: start-up, memory, seeks; and how often hosts read a shard.

    python scripts/bench_order.py [--shards 1000000] [--samples 10000]

Must hold for 1,000,000 shards of 10,000 samples: start-up <= 5 s, <= 300 MB resident, seek <= 10 ms.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from data.order.order import Order, Ordering
from data.shards.source import Source
from data.store.store import Store

BATCH = 4096


def _resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_manifest(path: Path, shards: int, samples: int) -> None:
    """A manifest of shards that are not there: what a run reads before its first sample."""
    counts = np.random.default_rng(0).integers(samples * 9 // 10, samples * 11 // 10, shards)
    with open(path, "w") as file:
        for number, count in enumerate(counts.tolist()):
            row = {
                "shard": f"s3://bucket/images/shard-{number:07d}.tar",
                "samples": count,
                "bytes": count * 20_000,
                "members": {"jpg": count, "txt": count},
                "token": f"{number:032x}",
            }
            file.write(json.dumps(row) + "\n")


def scale(shards: int, samples: int) -> None:
    """Start-up from a manifest, then seeks to random positions of random epochs."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "manifest.jsonl"
        write_manifest(manifest, shards, samples)
        bare, began = _resident(), time.perf_counter()
        source = Source("scale", str(manifest), Store())
        source.require({"image": ("jpg",), "text": ("txt",)})
        listed = time.perf_counter() - began
        order = Order(source.counts, 1, Ordering())
        began_order = time.perf_counter() - began - listed
    seeks, batches = [], []
    for position in np.random.default_rng(1).integers(0, 100 * order.size, 200).tolist():
        began = time.perf_counter()
        order(np.arange(position, position + 64))
        seeks.append(1000 * (time.perf_counter() - began))
        began = time.perf_counter()
        order(np.arange(position, position + BATCH))
        batches.append(1000 * (time.perf_counter() - began))
    print(f"{shards:,} shards, {order.size:,} samples")
    print(f"start-up: list of shards {listed:.2f} s, order {began_order:.2f} s; must be <= 5 s")
    print(f"resident: {bare:.0f} MB before, {_resident():.0f} MB at most; must be <= 300 MB")
    print(f"seek, 64 samples: median {statistics.median(seeks):.2f} ms, worst {max(seeks):.2f} ms; must be <= 10 ms")
    print(f"{BATCH} samples there: {statistics.median(batches) / BATCH * 1000:.2f} us each")


def hosts(shards: int, samples: int, hosts_: int) -> None:
    """One epoch in which each host takes its share of each global batch: which shards it reads, and when."""
    counts = np.random.default_rng(2).integers(samples * 9 // 10, samples * 11 // 10, shards)
    ordering = Ordering()
    order, ends = Order(counts, 3, ordering), np.cumsum(counts)
    begins = np.arange(0, order.size - BATCH, BATCH)
    readers = [set[int]() for _ in range(hosts_)]
    stretches = [dict[int, list[int]]() for _ in range(hosts_)]
    for step, begin in enumerate(begins.tolist()):
        positions = np.arange(begin, begin + BATCH)
        positions = positions[np.argsort(order.part(positions), kind="stable")]
        numbers = np.searchsorted(ends, order(positions)[1], side="right")
        for host, share in enumerate(np.split(numbers, hosts_)):
            readers[host].update(share.tolist())
            for shard in set(share.tolist()):
                stretches[host].setdefault(shard, [step, step])[1] = step
    read = sum(map(len, readers))
    at_once = []
    for found in stretches:
        alive = np.zeros(len(begins) + 1, dtype=np.int64)
        for first, last in found.values():
            alive[first] += 1
            alive[last + 1] -= 1
        at_once.append(int(np.cumsum(alive).max()))
    print(
        f"{hosts_} hosts, {shards:,} shards: {read / shards:.3f} reads a shard and epoch; "
        f"a host needs {max(at_once)} at a time (window {ordering.window} / {hosts_} = {ordering.window // hosts_})"
    )


def main() -> None:
    """Prints both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=10_000)
    arguments = parser.parse_args()
    scale(arguments.shards, arguments.samples)
    for count in (2, 8):
        hosts(4096, 1000, count)


if __name__ == "__main__":
    main()

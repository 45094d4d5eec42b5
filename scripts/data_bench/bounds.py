"""What no loader can beat: reading the bytes, copying them, and decoding what is in memory already."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from data_bench.decoding import Decode
from data_bench.kinds import Kind, tar_size
from data_bench.ours import own_prepare

from data.sample import Sample
from data.seeds import Randomness
from data.stream import Place, Stream


def sequential(kind: Kind, data: Path) -> dict[str, float]:
    """All tars read once from begin to end, by 1 MiB."""
    buffer = memoryview(bytearray(1 << 20))
    begun = time.perf_counter()
    for path in sorted((kind.folder(data) / "tar").glob("*.tar")):
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    wall = time.perf_counter() - begun
    return {"samples_per_s": kind.samples / wall, "gb_per_s": tar_size(kind, data) / wall / 1e9}


def indexed(kind: Kind, data: Path) -> dict[str, float]:
    """Every sample read by one pread at its known place, in random order, into a buffer that is used again.

    The places are even shares of the tars: what a loop costs that knows everything and makes nothing of it.
    """
    paths = sorted((kind.folder(data) / "tar").glob("*.tar"))
    files = [os.open(path, os.O_RDONLY) for path in paths]
    each = tar_size(kind, data) // kind.samples
    places = [
        (file, at) for file, path in zip(files, paths, strict=True) for at in range(0, path.stat().st_size - each, each)
    ]
    buffers = [memoryview(bytearray(each))]
    order = np.random.default_rng(0).permutation(len(places)).tolist()
    begun = time.perf_counter()
    for number in order:
        file, at = places[number]
        os.preadv(file, buffers, at)
    wall = time.perf_counter() - begun
    for file in files:
        os.close(file)
    return {"samples_per_s": len(order) / wall, "gb_per_s": len(order) * each / wall / 1e9}


def copies(kind: Kind, data: Path) -> dict[str, float]:
    """Bytes of a sample copied from memory to memory, a batch at a time."""
    size = tar_size(kind, data) // kind.samples * kind.batch
    source = np.ones(max(size, 1 << 28) // size * size, dtype=np.uint8).reshape(-1, size)
    target, begun = np.ones(size, dtype=np.uint8), time.perf_counter()
    for batch in source:
        np.copyto(target, batch)
    wall = time.perf_counter() - begun
    return {"samples_per_s": len(source) * kind.batch / wall, "gb_per_s": source.nbytes / wall / 1e9}


def _decode_for(seconds: float, make: Callable[[], Callable[[int], Any]], out: Any) -> None:
    import torch

    torch.set_num_threads(1)
    one = make()
    done = 0
    for span in (seconds / 4, seconds):  # the first is not counted, as in measure.rate
        begun, cpu, before = time.perf_counter(), time.process_time(), done
        while done == before or time.perf_counter() - begun < span:
            one(done)
            done += 1
    counted = done - before
    out.send((counted / (time.perf_counter() - begun), (time.process_time() - cpu) / counted * 1e6))


def decoding(kind: Kind, data: Path, form: str, processes: int, seconds: float) -> dict[str, float]:
    """Decoding alone: all contents lie in memory, nothing is collated. ``form`` as in ours.prepare_of.

    All of the data, in random order: a few samples that stay in the processor's caches decode faster than any new one.
    """
    root = kind.folder(data)
    tokenizer = root / "tokenizer" / "tokenizer.json"

    def make() -> Callable[[int], Any]:
        """In each process its own: samples that two hold together are copied page by page as they are counted."""
        stream = Stream("bench", str(root / "tar"), seed=0)
        samples: list[Sample] = [stream.read(Place(0, 0, number)) for number in range(kind.samples)]
        order = np.random.default_rng(os.getpid()).permutation(kind.samples).tolist()
        if form == "own":
            prepare, randomness = own_prepare(kind, tokenizer), Randomness(0, "bench")
            return lambda n: prepare(samples[order[n % len(order)]], randomness(n), True)
        decode, member = Decode(kind.name, tokenizer).ready(), kind.field or "txt"
        return lambda n: decode(samples[order[n % len(order)]].members[member])

    context = multiprocessing.get_context("fork")
    running = []
    for _ in range(processes):
        come, out = context.Pipe(duplex=False)
        process = context.Process(target=_decode_for, args=(seconds, make, out))
        process.start()
        out.close()  # so that the end of a process that fails is the end of its pipe
        running.append((process, come))
    rows = [come.recv() for _, come in running]
    for process, _ in running:
        process.join()
    return {"samples_per_s": sum(row[0] for row in rows), "cpu_us_per_sample": sum(row[1] for row in rows) / processes}


def measure(request: dict[str, Any], kind: Kind, data: Path) -> dict[str, float]:
    """Answers one request of the benchmark."""
    what = request["form"]
    if what in ("sequential", "indexed", "copies"):
        return {"sequential": sequential, "indexed": indexed, "copies": copies}[what](kind, data)
    return decoding(kind, data, what, max(1, request["workers"]), request["seconds"])

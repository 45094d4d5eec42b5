"""How long a save stops training: ours, synchronous and beside training, next to torch.save and torch's DCP.

    python scripts/bench_checkpoint.py --megabytes 400 --repeat 5 [--device cuda] [--folder DIR] [--json]

A state of model and Adam's averages (a third each), in tensors of 4 MB as layers have them. All ways bring their bytes
to disk (fsync); ours also takes their SHA-256, the others keep no digest. `stall` is what a training step would wait,
`done` when the checkpoint is complete. Medians; writes pending from before are waited for.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from pretrain.checkpoint import Piece, verify
from pretrain.checkpoint.peers import Peers
from pretrain.checkpoint.saver import Saver

TENSOR = 4 << 20


def state_of(megabytes: int, device: str) -> dict[str, dict[str, torch.Tensor]]:
    count = max(1, megabytes * 1_000_000 // TENSOR // 3)
    draw = [torch.randn(TENSOR // 4096, 1024, device=device) for _ in range(3 * count)]
    model = {f"layers.{n}.weight": draw[3 * n] for n in range(count)}
    adam = {f"layers.{n}.weight/{key}": draw[3 * n + i] for n in range(count) for i, key in ((1, "m"), (2, "v"))}
    return {"model": model, "optimizer": adam}


def facts(step: int) -> dict:
    return {"step": step, "positions": {"t": step}, "schedule": {"name": "Constant"}}


class Ours:
    def __init__(self, folder: Path, state: dict[str, dict[str, torch.Tensor]], asynchronous: bool) -> None:
        self.folder, self.asynchronous, self.step = folder, asynchronous, 0
        self.saver = Saver(folder, Peers(), lambda: None, lambda copies, step: None, lambda path: None)
        self.state = {kind: {n: Piece.whole(t) for n, t in named.items()} for kind, named in state.items()}

    def __call__(self) -> tuple[float, float]:
        self.step += 1
        began = time.perf_counter()
        self.saver.start(self.step, self.state, facts(self.step), copied=self.asynchronous)
        stall = time.perf_counter() - began
        outcome = self.saver.finish()
        assert outcome is not None
        assert outcome.error is None
        done = time.perf_counter() - began
        path = next(p for p in self.folder.iterdir() if p.name.startswith("step-"))
        verify(path)
        shutil.rmtree(path)
        return (stall if self.asynchronous else done), done


def torch_save(folder: Path, state: dict[str, dict[str, torch.Tensor]]) -> Callable[[], tuple[float, float]]:
    def once() -> tuple[float, float]:
        began = time.perf_counter()
        with open(folder / "file", "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        done = time.perf_counter() - began
        (folder / "file").unlink()
        return done, done

    return once


def dcp_save(
    folder: Path, state: dict[str, dict[str, torch.Tensor]], asynchronous: bool
) -> Callable[[], tuple[float, float]]:
    # The staging keeps its memory between saves, as ours does.
    cuda = torch.cuda.is_available()
    stager = DefaultStager(StagingOptions(cuda, False, False, cuda)) if asynchronous else None

    def once() -> tuple[float, float]:
        began = time.perf_counter()
        writer = dcp.FileSystemWriter(folder / "dcp", sync_files=True)
        if asynchronous:
            future = dcp.async_save(state, storage_writer=writer, async_stager=stager)
            stall = time.perf_counter() - began
            getattr(future, "upload_completion", future).result()
        else:
            dcp.save(state, storage_writer=writer)
        done = time.perf_counter() - began
        shutil.rmtree(folder / "dcp")
        return (stall if asynchronous else done), done

    return once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    folder = Path(tempfile.mkdtemp(dir=arguments.folder, prefix="bench-checkpoint-"))
    dist.init_process_group("cpu:gloo", store=dist.HashStore(), rank=0, world_size=1)
    state = state_of(arguments.megabytes, arguments.device)
    ways: dict[str, Callable[[], tuple[float, float]]] = {
        "ours, waited for": Ours(folder / "sync", state, False),
        "ours, beside training": Ours(folder / "async", state, True),
        "torch.save + fsync": torch_save(folder, state),
        "DCP save": dcp_save(folder, state, False),
        "DCP async_save": dcp_save(folder, state, True),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    try:
        for turn in range(arguments.repeat + 1):
            for name, way in ways.items():
                os.sync()
                if arguments.device == "cuda":
                    torch.cuda.synchronize()
                found = way()
                if turn:  # the first one takes memory from the system
                    times[name].append(found)
    finally:
        shutil.rmtree(folder)
        dist.destroy_process_group()
    report(arguments, times)


def report(arguments: argparse.Namespace, times: dict[str, list[tuple[float, float]]]) -> None:
    medians = {name: tuple(map(statistics.median, zip(*found, strict=True))) for name, found in times.items()}
    whole = medians["ours, waited for"][1]
    rows = [
        {"way": name, "stall_s": round(stall, 4), "done_s": round(done, 4), "share_of_sync": round(stall / whole, 4)}
        for name, (stall, done) in medians.items()
    ]
    if arguments.json:
        print(json.dumps({"megabytes": arguments.megabytes, "device": arguments.device, "rows": rows}))
        return
    print(f"{arguments.megabytes} MB on {arguments.device}, median of {arguments.repeat}")
    for row in rows:
        rate = arguments.megabytes / row["done_s"]
        share = f"{100 * row['share_of_sync']:5.1f} % of ours waited for"
        print(f"{row['way']:<24} stall {row['stall_s']:7.3f} s  done {row['done_s']:7.3f} s  {rate:6.0f} MB/s  {share}")


if __name__ == "__main__":
    main()

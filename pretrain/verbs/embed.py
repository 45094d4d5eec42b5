"""``pretrain embed``: samples of shards, or files, as vectors by a trained encoder."""

from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path
from typing import Any

import yaml

from data.errors import InputError
from pretrain.signals import STOPPING
from pretrain.verbs import options

DESCRIPTION = (
    "Embeds samples by an encoder of a run: one vector each, into parts of a folder, with keys. Ended at any moment, "
    "the same command goes on and the outcome is the same bit for bit. --devices N, torchrun or srun share the parts."
)


def parser() -> argparse.ArgumentParser:
    """The verb's command line."""
    top = options.Parser(prog="pretrain embed", description=DESCRIPTION)
    add = top.add_argument
    add("run", metavar="RUN", help="run directory (its newest sound checkpoint), or one step-XXXXXXXX folder")
    options.add_pattern(top)
    add("--out", metavar="DIR", type=Path, required=True, help="where the embeddings go; what is there is gone on with")
    add("--files", action="store_true", help="PATTERNs are loose files, and folders of them, instead of shards")
    add("--encoder", metavar="NAME", help="of the run (default: its only one)")
    add("--pool", metavar="POOL", default="own", help="own (as it was trained; default), mean, max, first or last")
    add(
        "--projection", metavar="DIM", default="auto", help="auto (the only joint space, if any; default), none, or DIM"
    )
    add("--layer", metavar="N", type=int, help="what N blocks make, without the last norm and a projection")
    add("--ema", action="store_true", help="the moving average of the weights instead of the trained ones")
    add("--prepare", metavar="KEY=VALUE", action="append", default=[], help="e.g. member=caption.txt, max_tokens=64")
    add("--samples", metavar="N", type=int, help="the first N alone (default: all)")
    add("--format", metavar="FORMAT", default="npy", help="npy (default), safetensors or parquet")
    add("--dtype", metavar="TYPE", default="float32", help="float32 (default) or float16")
    add("--batch-size", metavar="N", type=int, default=64, help="samples computed together (default: 64)")
    add(
        "--part-size",
        metavar="N",
        type=int,
        default=8192,
        help="samples of a part: at most so many are lost (default: 8192)",
    )
    options.add_device(top)
    add("--devices", metavar="N", type=int, default=1, help="processes of this host (default: 1)")
    add("--threads", metavar="N", type=int, help="of a process on the CPU (default: its share of the cores)")
    add("--workers", metavar="N", type=int, default=1, help="loader processes, of each process (default: 1)")
    options.add_trust(top)
    add("--quiet", action="store_true", help="print nothing at the end")
    return top


def main(argv: list[str]) -> int:
    """Runs the verb and returns its exit code.

    Raises:
        InputError: something asked for is not there or does not fit.
        RunError: the disk does not take it, or a worker died.
    """
    arguments = parser().parse_args(argv)
    arguments.out = arguments.out.expanduser()
    from pretrain import host, launch

    if launch.needed(arguments.devices):
        code = launch.launch(["embed", *argv, "--quiet"], arguments.devices, 1, silence_s=0)
        if code == 0 and not arguments.quiet:
            _say(arguments.out)
        return code
    host.tune()
    _stop_at_once()
    from pretrain.embedding.asked import Asked, embed

    asked = Asked(
        arguments.run, arguments.pattern, arguments.out, arguments.encoder, arguments.pool, arguments.projection,
        arguments.layer, arguments.ema, arguments.files, arguments.samples, changed_of(arguments.prepare),
        arguments.batch_size, arguments.part_size, arguments.format, arguments.dtype, arguments.device,
        arguments.threads, arguments.devices, options.workers_of(arguments), tuple(arguments.trust),
    )  # fmt: skip
    store = options.store_of(arguments)
    try:
        found = embed(asked, store, *_share())
    finally:
        store.close()
    if found is not None and not arguments.quiet:
        _say(arguments.out)
    return 0


def changed_of(given: list[str]) -> dict[str, Any]:
    """``--prepare KEY=VALUE`` as values.

    Raises:
        InputError: one has no ``=``.
    """
    found = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key:
            raise InputError(f"--prepare '{one}' is not KEY=VALUE")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"--prepare '{one}': the value cannot be read; put brackets into quotes") from None
    return found


def _share() -> tuple[int, int]:
    """(rank, number of processes), as whoever started this one says."""
    environment = os.environ
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return int(environment["RANK"]), int(environment["WORLD_SIZE"])
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return int(environment["SLURM_PROCID"]), int(environment["SLURM_STEP_NUM_TASKS"])
    return 0, 1


def _stop_at_once() -> None:
    # A launcher's children begin with signals put off until they listen. Parts are whole or absent: nothing to save.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _say(out: Path) -> None:
    recipe, found = (
        json.loads((out / f"{name}.json").read_text(encoding="utf-8")) for name in ("embeddings", "complete")
    )
    without = f", {found['left_out']:,} unusable ones left out" if found["left_out"] else ""
    print(
        f"{out}: {found['samples']:,} embeddings of {recipe['width']} features{without}; encoder {recipe['encoder']}, "
        f"step {recipe['step']:,}, {found['parts']} parts ({recipe['format']})"
    )

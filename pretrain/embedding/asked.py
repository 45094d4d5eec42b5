"""From what a user asks for to what is computed: encoder, samples, recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data.errors import InputError, choices
from data.files import FileStream
from data.store import url as urls
from data.store.store import Store
from data.stream import Stream
from pretrain.devices import device_of
from pretrain.embedding import parts
from pretrain.embedding.extract import AUTO, OWN, Extractor
from pretrain.embedding.job import Job
from pretrain.embedding.recipe import Recipe, read
from pretrain.host import cores
from pretrain.trained import Trained, run_place

DTYPES = ("float32", "float16")
_MOST_LACKING = 0.5  # of the samples; where most lack what the encoder takes, another encoder or source is meant


@dataclass
class Asked:
    """What the command line of ``pretrain embed`` says; see there.

    Attributes:
        run, source, out, encoder, pool, projection, layer: what, of what, where to.
        averaged: weights are the moving average.
        files: ``source`` names loose files and folders.
        samples: the first so many alone; None: all.
        changed: arguments of the prepare that are to be others.
        batch_size, part_size, format, dtype, device: see :class:`pretrain.embedding.recipe.Recipe`.
        threads: of a process; None: as the folder has it, else the cores of the host divided by ``processes``.
        processes: of this host that share the work.
        workers: processes that prepare samples, of each process; 0: none.
        roots: packages of the user's own that a config may name.
    """

    run: str
    source: list[str]
    out: Path
    encoder: str | None = None
    pool: str = OWN
    projection: str = AUTO
    layer: int | None = None
    averaged: bool = False
    files: bool = False
    samples: int | None = None
    changed: dict[str, Any] | None = None
    batch_size: int = 64
    part_size: int = 8192
    format: str = "npy"
    dtype: str = "float32"
    device: str = "auto"
    threads: int | None = None
    processes: int = 1
    workers: int = 1
    roots: tuple[str, ...] = ()


def embed(asked: Asked, store: Store, rank: int = 0, world_size: int = 1) -> dict[str, int] | None:
    """Makes this process's share of the embeddings.

    Returns:
        Samples, left-out ones and parts of the whole folder; None while other processes have some to do.

    Raises:
        InputError: something asked for is not there or does not fit.
        RunError: the disk does not take it, a worker died.
    """
    _check(asked)
    there = read(asked.out)
    threads = asked.threads or (there.threads if there else max(1, cores() // asked.processes))
    torch.set_num_threads(threads)
    trained = Trained(_place(asked, there), asked.averaged, asked.roots)
    name = trained.chosen(asked.encoder)
    device = device_of(there.device if there and asked.device == "auto" else asked.device)
    extractor = Extractor(trained.encoder(name).to(device), asked.pool, asked.projection, asked.layer)
    node = trained.prepare_node(name, extractor.projection is not None, **(asked.changed or {}))
    prepare = trained.prepare(name, node)
    stream = open_stream(asked.source, asked.files, prepare.needs, store)
    recipe = Recipe(
        run=str(Path(asked.run).expanduser().absolute()),
        checkpoint=trained.digest,
        step=trained.step,
        averaged=asked.averaged,
        encoder=name,
        modality=extractor.encoder.modality,
        pool=asked.pool,
        layer=asked.layer,
        projection=extractor.projection,
        width=extractor.width,
        prepare=node,
        needs={what: list(wanted) for what, wanted in prepare.needs.items()},
        source=[located(place) for place in asked.source],
        files=asked.files,
        fingerprint=stream.fingerprint(),
        samples=min(len(stream), asked.samples or len(stream)),
        batch_size=asked.batch_size,
        part_size=asked.part_size,
        format=asked.format,
        dtype=asked.dtype,
        device=device.type,
        threads=threads,
    )
    job = Job(recipe, asked.out, rank, world_size)
    job.run(stream, prepare, extractor, asked.workers)
    return job.finish()


def open_stream(source: Sequence[str], files: bool, needs: Mapping[str, Sequence[str]], store: Store) -> Stream:
    """The samples of ``source`` in their order.

    Raises:
        InputError: nothing is there, or most of it is not what ``needs`` asks for.
    """
    if files:
        return FileStream("files", source, [one for wanted in needs.values() for one in wanted])
    stream = Stream("embed", list(source), seed=0, ordering=None, store=store)
    for one in stream.sources:
        one.require({what: tuple(wanted) for what, wanted in needs.items()}, _MOST_LACKING)
    return stream


def located(place: str) -> str:
    """A pattern, path or URL as it can be read from any folder."""
    return "::".join(one if ":" in one else str(Path(one).expanduser().absolute()) for one in urls.parts(place))


def _place(asked: Asked, there: Recipe | None) -> str:
    """The checkpoint: a folder that was begun stays with its own, although the run may have a newer one by now."""
    if there is None:
        return asked.run
    place = run_place(asked.run, there.step)
    if not Path(place).expanduser().exists():
        raise InputError(
            f"--out '{asked.out}' was begun with step {there.step}, which '{asked.run}' does not have; "
            "give another folder"
        )
    return place


def _check(asked: Asked) -> None:
    for option, value, known in (("format", asked.format, parts.FORMATS), ("dtype", asked.dtype, DTYPES)):
        if value not in known:
            raise InputError(f"--{option} '{value}' is unknown; {choices(value, known)}")
    parts.check_format(asked.format)
    numbers = {"batch-size": asked.batch_size, "part-size": asked.part_size, "samples": asked.samples}
    for option, number in (numbers | {"threads": asked.threads, "devices": asked.processes}).items():
        if number is not None and number < 1:
            raise InputError(f"--{option} {number} is not 1 or more")
    if asked.part_size % asked.batch_size:
        raise InputError(f"--part-size {asked.part_size} is no multiple of --batch-size {asked.batch_size}")

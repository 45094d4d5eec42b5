"""Where a run stands: its own newest sound checkpoint, another run's, other weights, or the beginning."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from data.errors import InputError
from data.stream import Stream
from pretrain import checkpoint, listings, resume
from pretrain.export import incoming
from pretrain.export.initialise import initialise
from pretrain.model import Model, tokenizers
from pretrain.optim.ema import Ema
from pretrain.optim.state import restore_optimizer
from pretrain.run import METRICS, RunDirectory

log = logging.getLogger("pretrain")


@dataclass
class Start:
    """Where a run goes on.

    Attributes:
        step: optimizer updates done.
        positions: task -> samples consumed.
        segments: task -> what its stream was and is made of; see :class:`data.order.history.Segment`.
    """

    step: int
    positions: dict[str, int]
    segments: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def begin(
    config: Mapping[str, Any],
    directory: RunDirectory,
    facts: Mapping[str, Any],
    streams: Mapping[str, Stream],
    model: Model,
    optimizer: torch.optim.Optimizer,
    ema: Ema | None = None,
) -> Start:
    """Puts model and optimizer where the run goes on, and its files with them. Rank 0 does it for all.

    Args:
        config: of the run, resolved.
        directory: of the run.
        facts: what a checkpoint says beside its tensors, as it is now; see :func:`facts_of`.
        streams: task -> its stream; goes on from what the checkpoint says it was made of.
        model: as initialised; changed in place.
        optimizer: of the model; changed in place.
        ema: average of the model's weights, if one is kept; begins as the model where no average is saved.

    Raises:
        InputError: see :func:`find_start`, :func:`restore` and :func:`initialise_from`.
    """
    checkpoint.sweep(directory.checkpoints)
    found = find_start(config, directory, facts, streams)
    start = Start(0, dict.fromkeys(config["tasks"], 0))
    if found is not None:
        restore(found, model, optimizer)
        start.step = found.step
        start.positions |= {task: p for task, p in found.state["positions"].items() if task in start.positions}
    elif config["init_from"] is not None and incoming.concerns(config["init_from"]):
        initialise(config, model)
    elif config["init_from"] is not None:
        initialise_from(config["init_from"], model, facts["tokenizers"], config["allow_changes"])
    if ema is not None:
        ema.begin(found.ema if found is not None else None)
    directory.rewind(start.step)
    past = found.state.get("segments", {}) if found is not None else {}
    for task, stream in streams.items():
        for line in stream.adopt(past.get(task, []), start.positions[task]):
            log.info("from position %d of task %s on: %s", start.positions[task], task, line)
        start.segments[task] = [segment.as_json() for segment in stream.segments]
    listings.keep(directory.path, streams)
    return start


def facts_of(config: Mapping[str, Any], model: Model, streams: Mapping[str, Stream]) -> dict[str, Any]:
    """What decides whether a checkpoint fits: the config of model and data order, digests of shards and tokenizers."""
    return {
        "config": {key: config[key] for key in ("seed", "order", "encoders", "tasks")},
        "data": {name: digest for stream in streams.values() for name, digest in stream.fingerprint().items()},
        "tokenizers": tokenizers(model),
    }


def find_start(
    config: Mapping[str, Any], directory: RunDirectory, facts: Mapping[str, Any], streams: Mapping[str, Stream]
) -> checkpoint.Content | None:
    """The checkpoint to go on from: the run's own newest sound one, else the one ``resume`` names, else None.

    Raises:
        InputError: all of the run's checkpoints are damaged, or config, data or tokenizer changed too much.
    """
    allowed = config["allow_changes"]
    place, found = directory.path, None
    for path, content in checkpoint.newest(directory.checkpoints):
        if isinstance(content, checkpoint.Damaged):
            log.warning("checkpoint %s is damaged (%s); set aside", path.name, content)
            checkpoint.set_aside(path)
        else:
            found = content
    if found is None:
        refuse_to_begin_anew(directory)
    frozen = directory.frozen_config() or {}
    for word in ("resume", "init_from"):
        if found is not None and config[word] not in ("auto", None):
            log.info("%s=%s counted for the run's first step alone; it has come further", word, config[word])
    if found is None and config["resume"] != "auto":
        place, frozen = config["resume"], {}
        found = checkpoint.find(place)
    if found is not None:
        # The checkpoint's own word counts; the frozen config adds the keys that change neither model nor order.
        old = frozen | found.state["config"]
        for line in resume.check_config(old, {key: config[key] for key in old if key in config}, allowed):
            log.info(line)
        resume.check_tokenizers(str(place), found.state["tokenizers"], facts["tokenizers"], allowed)
        digests, roots = found.state["data"], (directory.path, Path(place), Path(place).parent.parent)
        resume.check_data(digests, facts["data"], allowed, lambda name: _differs(name, digests, streams, roots))
        log.info("going on from step %d of %s", found.step, place)
    return found


def _differs(
    name: str, digests: Mapping[str, str], streams: Mapping[str, Stream], roots: tuple[Path, ...]
) -> str | None:
    """How the shards of source ``name`` differ from those of the run, whose lists lie below one of ``roots``."""
    now = [source for stream in streams.values() for source in stream.sources if source.name == name]
    old = [listing for root in roots if (listing := listings.kept(root, name, digests[name])) is not None]
    return listings.difference(old[0], now[0].listing()) if old and now else None


def refuse_to_begin_anew(directory: RunDirectory) -> None:
    """Stops a run that has come further than its first checkpoint from starting over without a word.

    Raises:
        InputError: its checkpoints are damaged or gone.
    """
    frozen = directory.frozen_config()
    reached = max((row["step"] for row in directory.rows(METRICS)), default=0)
    starts = [row["step"] for row in directory.rows("starts.jsonl")]
    lost = False
    if frozen is not None and starts:
        # The row of a later step is written only after the checkpoint before it was published. A run that goes on from
        # another one (resume=...) begins at that one's step.
        every = frozen["checkpoint"]["every_n_steps"]
        lost = reached > (starts[0] // every + 1) * every or max(starts) > starts[0]
    if checkpoint.damaged(directory.checkpoints) or lost:
        raise InputError(
            f"'{directory.path}' has come to step {reached}, but no sound checkpoint is left (damaged ones are kept as "
            "damaged-*); put one back, or give another run_dir to begin anew"
        )


def restore(found: checkpoint.Content, model: Model, optimizer: torch.optim.Optimizer) -> None:
    """Puts weights and optimizer state back.

    Raises:
        InputError: the checkpoint is of a model with other parameters or sizes.
    """
    own = model.state_dict()
    for name in sorted(own.keys() | found.model.keys()):
        there, here = found.model.get(name), own.get(name)
        if there is None or here is None:
            one, other = ("lacks", "has") if there is None else ("has", "lacks")
            raise InputError(f"the checkpoint {one} '{name}', which this model {other}")
        if there.shape != here.shape:
            sizes = f"{tuple(there.shape)} in the checkpoint and {tuple(here.shape)} in this model"
            raise InputError(f"'{name}' is {sizes}: another model size")
    model.load_state_dict(found.model)
    restore_optimizer(optimizer, model, found.optimizer)


def initialise_from(place: str, model: Model, digests: Mapping[str, str], allowed: list[str]) -> None:
    """Takes the weights whose names and shapes fit, and says which did not.

    Raises:
        InputError: nothing fits, a tensor has another shape, or an encoder's tokenizer is another one.
    """
    found = checkpoint.find(place)
    resume.check_tokenizers(place, found.state["tokenizers"], digests, allowed)
    own = model.state_dict()
    common = sorted(own.keys() & found.model.keys())
    for name in common:
        if own[name].shape != found.model[name].shape:
            sizes = f"{tuple(found.model[name].shape)} there and {tuple(own[name].shape)} in this model"
            raise InputError(f"init_from '{place}': '{name}' is {sizes}")
    if not common:
        raise InputError(f"init_from '{place}' has no parameter in common with this model")
    model.load_state_dict({name: found.model[name] for name in common}, strict=False)
    new = sorted(own.keys() - found.model.keys())
    log.info("weights from step %d of %s: %d tensors taken", found.step, place, len(common))
    if new:
        log.info("%d tensors begin anew (%s, ...)", len(new), new[0])

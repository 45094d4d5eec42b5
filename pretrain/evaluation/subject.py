"""What is evaluated: the model of a run, with the weights of one checkpoint after another."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from data.errors import InputError
from data.store.store import Store
from pretrain import checkpoint, config
from pretrain.build import make
from pretrain.checkpoint.folder import MANIFEST
from pretrain.evaluation.build import build_evaluators
from pretrain.evaluation.measure import measure
from pretrain.evaluation.scores import Scores, Table, tables_of
from pretrain.grammar import key_of
from pretrain.model import build_model, tokenizers
from pretrain.run import CONFIG, STARTS, RunDirectory, is_start
from pretrain.start import initialise_from
from pretrain.targets import COMMAND_LINE
from pretrain.whole import whole

log = logging.getLogger("pretrain")


def compose(run: RunDirectory | None, state: Mapping[str, Any], given: Sequence[str], config_dir: str | None) -> Any:
    """The config to evaluate by: that of the run's latest start, changed by ``given``, with the checkpoint's model.

    What lets a run execute foreign code is not taken from the run's files, but from ``given`` alone.

    Args:
        run: the run; None: there is none, and ``given`` says everything.
        state: of a checkpoint.
        given: overrides of this command line.
        config_dir: folder of the user's own groups.

    Raises:
        InputError: see :func:`pretrain.config.load`; or the checkpoint says of no model.
    """
    own = state.get("config")
    if not isinstance(own, Mapping) or not all(isinstance(own.get(key), Mapping) for key in ("encoders", "tasks")):
        raise InputError("the checkpoint does not say which encoders and tasks it is of (state.json: config)")
    starts = list(filter(is_start, run.rows(STARTS, damaged=True))) if run is not None else []
    if run is not None and starts and starts[-1].get("file"):
        base = _frozen(run)
        composed = config.checked(config.compose_raw(given, config_dir, base), given)
    else:
        past = [one for one in (starts[-1]["overrides"] if starts else []) if key_of(one) not in COMMAND_LINE]
        composed = config.load([*past, *given], config_dir)
    tasks = {}
    for name, spec in own["tasks"].items():
        heldout = composed["tasks"][name]["heldout"] if name in composed["tasks"] else None
        tasks[name] = {**spec, "heldout": heldout}
    return {**composed, "encoders": own["encoders"], "tasks": tasks, "seed": own["seed"]}


def _frozen(run: RunDirectory) -> DictConfig:
    """The config that the run's latest start has left, which trusts nobody; for a start whose overrides are not all."""
    file = run.path / CONFIG
    found = whole(str(file), f"'{file}'")
    for key in ("defaults", "hydra"):
        found.pop(key, None)  # no part of a run's config, but to Hydra a word about where to look for more
    for key in COMMAND_LINE:
        if OmegaConf.select(found, key):
            OmegaConf.update(found, key, [])
    return found


class Subject:
    """A model and its evaluators, built once.

    Args:
        composed: see :func:`compose`.
        store: where shards are read from.
        device: where is computed.
        averaged: measure the moving average of the weights.

    Raises:
        InputError: a part of the config or its data is not there.
    """

    def __init__(self, composed: Mapping[str, Any], store: Store, device: torch.device, averaged: bool = False) -> None:
        if composed["data"].get("builder"):
            make(composed["data"]["builder"], "data.builder", tuple(composed["trusted_roots"])).ensure()
        self.averaged, self._composed = averaged, composed
        self.model = build_model(composed).to(device)
        self.evaluators = build_evaluators(composed, self.model, store, composed["loader"]["workers"])
        if not self.evaluators:
            raise InputError("there is nothing to evaluate by: no task has heldout data, and no evaluator has a source")

    def begin(self) -> None:
        """Takes the weights that the run began with, where ``init_from`` names some.

        Raises:
            InputError: they are not there any more, or do not fit.
        """
        if self._composed["init_from"] is not None:
            initialise_from(self._composed, self.model, tokenizers(self.model))

    def take(self, reader: checkpoint.Reader) -> None:
        """Takes the weights of a checkpoint, of which nothing is needed afterwards.

        Raises:
            InputError: they are of another model, or there is no average.
            Damaged: the checkpoint is not what it was.
        """
        averages = reader.shapes("ema") if self.averaged else {}
        if self.averaged and not averages:
            raise InputError(f"--ema: '{reader.path}' keeps no averaged weights (the run needs ema.decay=0.999 or so)")
        own, there = self.model.state_dict(), reader.shapes("model")
        for name in sorted(own.keys() | there.keys()):
            if name not in own or name not in there or tuple(own[name].shape) != there[name]:
                raise InputError(f"checkpoint '{reader.path}' is of another model: it differs in '{name}'")
        kinds = {name: "ema" if name in averages else "model" for name in own}
        # Copied one by one: what a reader has mapped keeps the disk blocks of a checkpoint that is pruned meanwhile.
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(reader.tensor(kinds[name], name))

    def measure(self) -> Scores:
        """What all evaluators find."""
        return measure(self.model, self.evaluators)

    @property
    def names(self) -> list[str]:
        """Of the evaluators, the held-out values of tasks aside."""
        return [name for one in self.evaluators if (name := getattr(one, "name", ""))]

    @property
    def tables(self) -> dict[str, list[Table]]:
        """What they said beyond numbers when they measured last."""
        return tables_of(self.evaluators)


def digest_of(path: Path) -> str:
    """Names a checkpoint: SHA-256 of its manifest, which holds those of all files.

    Raises:
        OSError: it is gone.
    """
    return hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()

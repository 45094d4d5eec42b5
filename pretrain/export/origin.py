"""What is exported: a checkpoint, its config, and what its run knows about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from data.errors import InputError, choices
from modalities.lora import merged
from pretrain import checkpoint
from pretrain.evaluation import results as evaluations
from pretrain.run import RunDirectory
from pretrain.trained import run_of


@dataclass
class Origin:
    """One checkpoint and the config it was made with.

    Attributes:
        place: as it was named.
        content: the checkpoint.
        weights: parameter or buffer name -> tensor: trained, or averaged; with their updates (LoRA) added.
        averaged: whether they are the moving average.
        run: the run's directory, where it could be found.
    """

    place: str
    content: checkpoint.Content
    weights: dict[str, Tensor]
    averaged: bool
    run: RunDirectory | None

    @property
    def config(self) -> Mapping[str, Any]:
        """``encoders``, ``tasks``, ``seed`` and ``order``, as the checkpoint has them."""
        found: Mapping[str, Any] = self.content.state["config"]
        return found

    def frozen(self) -> Mapping[str, Any]:
        """The run's whole config, {} where there is none."""
        return (self.run.frozen_config() if self.run else None) or {}

    def results(self) -> dict[str, Any] | None:
        """What was measured at this checkpoint's step, by the run and by ``pretrain evaluate``; None if nothing was."""
        if self.run is None:
            return None
        step = self.content.step
        parts = [evaluations.read(evaluations.path_of(self.run.path, step)), self.run.results()]
        own = [evaluations.of_its_step(part) for part in parts if part is not None and part["step"] == step]
        return {"step": step, **evaluations.joined(*own)} if own else None

    def baseline(self) -> dict[str, Any]:
        """Metric -> value of the model as it began, as far as ``pretrain evaluate --untrained`` has measured it."""
        found = evaluations.read(evaluations.baseline_of(self.run.path)) if self.run else None
        return {name: score["value"] for name, score in found["metrics"].items()} if found else {}

    def encoder(self, name: str) -> Mapping[str, Any]:
        """The config node of an encoder.

        Raises:
            InputError: the checkpoint has none of this name.
        """
        return self._node("encoders", "--encoder", name)

    def task(self, name: str) -> Mapping[str, Any]:
        """The config node of a task.

        Raises:
            InputError: the checkpoint has none of this name.
        """
        return self._node("tasks", "--task", name)

    def _node(self, group: str, option: str, name: str) -> Mapping[str, Any]:
        known = self.config[group]
        if name not in known:
            raise InputError(f"{option} '{name}' is not in '{self.place}'; {choices(name, known)}")
        found: Mapping[str, Any] = known[name]
        return found

    def state(self, part: str, name: str) -> dict[str, Tensor]:
        """The tensors of ``encoders`` or ``objectives`` NAME, by their own names."""
        prefix = f"{part}.{name}."
        return {key.removeprefix(prefix): t for key, t in self.weights.items() if key.startswith(prefix)}


def open_origin(place: str, averaged: bool) -> Origin:
    """Reads the newest sound checkpoint of a run, or the one that ``place`` is.

    Args:
        place: run directory, or step-XXXXXXXX folder.
        averaged: take the moving average of the weights (frozen ones have none and stay as they are).

    Raises:
        InputError: there is no sound checkpoint, it has no average, or it says of no encoders.
    """
    reader = checkpoint.find_reader(place)
    content = checkpoint.content_of(reader)
    config = content.state.get("config")
    if not isinstance(config, Mapping) or not all(
        isinstance(config.get(key), Mapping) for key in ("encoders", "tasks")
    ):
        raise InputError(f"checkpoint '{place}' does not say which encoders and tasks it is of (state.json: config)")
    weights = dict(content.model)
    if averaged:
        if not content.ema:
            raise InputError(f"--ema: '{place}' keeps no averaged weights (the run needs ema.decay=0.999 or so)")
        weights |= content.ema
    return Origin(place, content, merged(weights), averaged, run_of(reader))

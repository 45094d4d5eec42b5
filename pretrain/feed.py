"""What feeds a run: each task's stream, checked against what the task needs, and the loader over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from data.errors import InputError
from data.loading.loader import StepLoader, TaskData
from data.order.order import Ordering
from data.store.store import Store
from data.stream import Stream
from pretrain.exact import micro_batch_size
from pretrain.faults import Faults
from pretrain.model import Model
from pretrain.module import Pretraining
from pretrain.run import RunDirectory
from pretrain.soundness.course import Course
from pretrain.start import Start
from pretrain.waiting import PATIENCE_S, Patient


def open_streams(
    config: Mapping[str, Any], model: Model, store: Store, faults: Faults | None = None
) -> dict[str, Stream]:
    """Task -> its stream, with all samples but a few known to have the members their task needs.

    Args:
        config: of the run, resolved.
        model: whose tasks say what they need.
        store: where shards are read from.
        faults: gets what is wrong, and such tasks are left out; None: it is raised.

    Raises:
        InputError: sources are not given, match nothing, are empty, or lack members; a line for each task.
    """
    streams, found = {}, Faults() if faults is None else faults
    for name, spec in config["tasks"].items():
        with found.noted():
            streams[name] = _open_stream(name, spec, config, model, store)
    if faults is None:
        found.tell()
    return streams


def _open_stream(name: str, spec: Mapping[str, Any], config: Mapping[str, Any], model: Model, store: Store) -> Stream:
    if spec["source"] is None:
        raise InputError(f"tasks.{name}.source is not given; name shards: tasks.{name}.source='shards/own-*.tar'")
    stream = Stream(name, spec["source"], config["seed"], Ordering(**config["order"]), spec["alpha"], store)
    for source in stream.sources:
        source.require(model.tasks[name].prepare.needs, config["quarantine"]["max_share"])
    return stream


class Feed(pl.LightningDataModule):
    """Makes the loader when the run knows where it goes on: the steps from there to ``max_steps``, this rank's share.

    Args:
        config: of the run, resolved.
        streams: task -> its stream.
        module: knows where the run goes on.
        directory: of the run; jumps are written down there.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        streams: Mapping[str, Stream],
        module: Pretraining,
        directory: RunDirectory,
    ) -> None:
        super().__init__()
        self.config, self.streams, self.module, self.directory = config, streams, module, directory
        self._loader: StepLoader | None = None

    def train_dataloader(self) -> Patient:
        """The steps, which are waited for until a signal asks the run to stop."""
        sizes = {name: spec["batch_size"] for name, spec in self.config["tasks"].items()}
        most = self.config["max_steps"] * (1 + self.config["sick"]["rewind"]["at_most"])
        steps = Course(self.module, self._open, self.config["max_steps"], most, sizes, self.directory)
        patience_s = 0.0 if self.module.trainer.world_size == 1 else PATIENCE_S
        return Patient(steps, patience_s, lambda: self.module.steps_done >= self.config["max_steps"])

    def _open(self, start: Start) -> StepLoader:
        self.close()
        trainer = self.module.trainer
        tasks = {
            name: TaskData(
                self.streams[name],
                self.module.model.tasks[name].prepare,
                spec["batch_size"],
                micro_batch_size(self.config, spec),
                start.positions[name],
            )
            for name, spec in self.config["tasks"].items()
        }
        self._loader = StepLoader(
            tasks,
            start.step,
            self.config["max_steps"],
            trainer.global_rank,
            trainer.world_size,
            **self.config["loader"],
            pin_memory=self.module.device.type == "cuda",
        )
        return self._loader

    def close(self) -> None:
        """Ends the loader's workers, however the run ended."""
        if self._loader is not None:
            self._loader.close()

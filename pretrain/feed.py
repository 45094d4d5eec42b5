"""What feeds a run: the loader over the streams of all its tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from data.loading.loader import StepLoader, TaskData
from data.stream import Stream
from pretrain.exact import micro_batch_size
from pretrain.module import Pretraining
from pretrain.run import RunDirectory
from pretrain.soundness.course import Course
from pretrain.start import Start
from pretrain.waiting import PATIENCE_S, Patient


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

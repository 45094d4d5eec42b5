"""Before the first step: rank 0 finds where the run stands, and all processes go on from exactly there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist

from data.errors import InputError
from data.stream import Stream
from pretrain.module import Pretraining
from pretrain.optim.state import optimizer_tensors, restore_optimizer
from pretrain.provenance import provenance
from pretrain.run import RunDirectory
from pretrain.start import begin


class Beginning(pl.Callback):
    """Restores the run once the processes can talk to one another.

    Only rank 0 looks at the run directory. The others get weights, optimizer state and positions from it, so that
    replicas cannot begin apart, and an error that it finds ends all of them.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        overrides: list[str],
        directory: RunDirectory,
        facts: Mapping[str, Any],
        streams: Mapping[str, Stream],
    ) -> None:
        self.config, self.overrides, self.directory, self.facts = config, overrides, directory, facts
        self.streams = streams

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Sets the module's ``start`` and state.

        Raises:
            InputError: on every process, what rank 0 found wrong.
        """
        assert isinstance(pl_module, Pretraining)
        error: InputError | None = None
        if trainer.is_global_zero:
            try:
                self._begin(pl_module)
            except InputError as found:
                error = found
        if trainer.world_size > 1:
            error = self._share(pl_module, error)
        if error is not None:
            raise error
        pl_module.steps_done = pl_module.start.step

    def _begin(self, module: Pretraining) -> None:
        parts = (module.model, module.optimizer, module.ema)
        module.start = begin(self.config, self.directory, self.facts, self.streams, *parts)
        sizes = {name: spec["batch_size"] for name, spec in self.config["tasks"].items()}
        where = {"step": module.start.step, "positions": module.start.positions, "batch_sizes": sizes}
        where |= {"segments": module.start.segments, "data": self.facts["data"]}
        self.directory.freeze_config(self.config, provenance(self.overrides) | where)

    def _share(self, module: Pretraining, error: InputError | None) -> InputError | None:
        tensors = optimizer_tensors(module.optimizer, module.model)
        weights, averages = dict(module.model.state_dict()), module.ema.tensors if module.ema is not None else {}
        message: list[Any] = [str(error) if error else "", module.start, weights, tensors, averages]
        dist.broadcast_object_list(message)
        text, module.start, weights, tensors, averages = message
        if text:
            return InputError(text)
        for task, stream in self.streams.items():
            stream.adopt(module.start.segments[task], module.start.positions[task])
        module.model.load_state_dict(weights)
        restore_optimizer(module.optimizer, module.model, tensors)
        if module.ema is not None:
            module.ema.begin(averages)
        return None

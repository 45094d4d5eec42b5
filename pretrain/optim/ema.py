"""A moving average of the weights (Polyak & Juditsky 1992), in float32, beside the ones that are trained."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from data.errors import InputError
from pretrain.sharding.local import local

log = logging.getLogger("pretrain")


def check_average(config: Mapping[str, Any]) -> None:
    """Checks that what is to be measured is made.

    Raises:
        InputError: it is not.
    """
    if config["ema"]["decay"] is None and config["evaluate"]["ema"]:
        raise InputError("evaluate.ema=true needs averaged weights; give ema.decay=0.999 or so")


class Ema:
    """average <- decay * average + (1 - decay) * weight, every ``every_n_steps`` steps; frozen weights are left out.

    Args:
        model: whose parameters are averaged.
        decay: share of the average that an update keeps.
        every_n_steps: steps from one update to the next.

    Attributes:
        tensors: parameter name -> its average, float32; begins as the weights the run begins with. Divided between
            processes as the parameter is.

    Raises:
        InputError: ``decay`` is not between 0 and 1.
    """

    def __init__(self, model: nn.Module, decay: float, every_n_steps: int = 1) -> None:
        if not 0 < decay < 1:
            raise InputError(f"ema.decay={decay} is not between 0 and 1 (null: off)")
        self.model, self.decay, self.every_n_steps = model, decay, every_n_steps
        self._average = get_ema_multi_avg_fn(decay)
        self.tensors: dict[str, Tensor] = {}

    def begin(self, saved: Mapping[str, Tensor] | None = None) -> None:
        """Goes on from ``saved``; a parameter that is not in it begins as it is now.

        Raises:
            InputError: ``saved`` has an average of another shape.
        """
        saved = saved or {}
        own = self._parameters()
        new = [name for name in own if name not in saved]
        if saved and new:
            log.info("the averages of %d parameters begin anew (%s, ...)", len(new), new[0])
        for name in own.keys() & saved.keys():
            if own[name].shape != saved[name].shape:
                raise InputError(f"the average of '{name}' is of shape {tuple(saved[name].shape)} in the checkpoint")
        self.tensors = {
            name: saved.get(name, p).detach().to(p.device, torch.float32, copy=True) for name, p in own.items()
        }

    @torch.no_grad()
    def update(self, steps_done: int) -> None:
        """Takes in the weights after step ``steps_done`` if it is due."""
        if steps_done % self.every_n_steps:
            return
        own = self._parameters()
        self._follow(own)
        averages = [local(self.tensors[name]) for name in own]
        self._average(averages, [local(p).float() for p in own.values()], 0)  # type: ignore[operator]

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Within, the model has the averages as its weights; behind, its own again, bit for bit."""
        own = self._parameters()
        self._follow(own)
        kept = {name: p.detach().clone() for name, p in own.items()}
        try:
            _copy(own, self.tensors)
            yield
        finally:
            _copy(own, kept)

    def _parameters(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad and p.is_floating_point()}

    def _follow(self, own: Mapping[str, nn.Parameter]) -> None:
        """To the device, where the model may have moved since the run began."""
        for name, p in own.items():
            if self.tensors[name].device != p.device:
                self.tensors[name] = self.tensors[name].to(p.device)


@torch.no_grad()
def _copy(own: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    for name, p in own.items():
        local(p).copy_(local(values[name]))

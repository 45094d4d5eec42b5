"""One step on the smallest shapes, tried on a copy of the model before the first step of a run."""

from __future__ import annotations

import random
import traceback
from collections.abc import Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from data.errors import InputError
from modalities.objective import Step
from modalities.prepare import Batch
from pretrain.model import Model

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 50_000_000
"""Parameters of a model that is tried; a larger one would take seconds on the host, and twice its memory."""
# What a wrong shape, type or number ends in, of torch and of Python.
_WRONG = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)


def worth_it(config: Mapping[str, Any], model: Model) -> bool:
    """Whether the model can be tried on the host at little cost.

    Not where it will be compiled, or trained on a GPU: autograd's threads for that would be there before workers begin.
    """
    count = sum(parameter.numel() for parameter in model.parameters())
    return count <= LARGEST and not config["trainer"]["compile"] and not torch.cuda.is_available()


def try_step(model: Model, task: str, batch: Batch) -> None:
    """Forward and backward of ``task`` over ``batch``, after which everything is as it was.

    Weights, buffers and gradients are those of a copy; the states of all random generators are put back.

    Args:
        model: whole, on the host.
        task: its name.
        batch: of a few samples.

    Raises:
        InputError: it cannot be computed; says where.
    """
    with _same_randomness():
        sides = model.tasks[task].sides
        parts = deepcopy(({name: model.encoders[name] for name in set(sides.values())}, model.objectives[task]))
        encoders, objective = parts
        objective.train()
        for encoder in encoders.values():
            encoder.train()
        try:
            own: Any = {side: encoders[name] for side, name in sides.items()}
            objective.step(own, [batch], Step(), 1.0)  # type: ignore[operator]
        except InputError as error:
            raise InputError(f"task '{task}': {error}") from None
        except _WRONG as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            reason = (str(error) or "no reason given").splitlines()[0]
            place = f"{Path(last.filename).name}:{last.lineno}"
            said = f"{type(error).__name__} in {place}: {reason}"
            raise InputError(f"task '{task}': a step on {batch['size']} samples cannot be computed: {said}") from error


@contextmanager
def _same_randomness() -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])

"""What a micro-batch draws is a function of run, step, process, micro-batch and task, and of nothing else."""

from __future__ import annotations

import random
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from pretrain.exact import ExactGradients
from pretrain.gradients import Gradients
from pretrain.steps import TrainerStep


def drawn(
    seed: int = 0, number: int = 0, task: str = "mlm", micro: int = 0, gradients: Gradients | None = None
) -> tuple[float, ...]:
    if gradients is None:
        gradients = Gradients(nn.Module(), 0, 2)
    module: Any = SimpleNamespace(seed=seed, device=torch.device("cpu"), gradients=gradients)
    TrainerStep(module, number, task).seed(micro)
    return tuple(torch.rand(4).tolist())


def exact(rank: int, world_size: int, micro_batches: int) -> ExactGradients:
    gradients = ExactGradients(nn.Module(), rank, world_size)
    gradients.begin(micro_batches)
    return gradients


def test_each_draws_something_else_and_the_same_again():
    other = {
        "nothing": {},
        "seed": {"seed": 1},
        "step": {"number": 1},
        "task": {"task": "clip"},
        "micro-batch": {"micro": 1},
        "process": {"gradients": Gradients(nn.Module(), 1, 2)},
    }
    found = {name: drawn(**changed) for name, changed in other.items()}
    for one, two in combinations(found, 2):
        assert found[one] != found[two], (one, two)
    torch.rand(3)
    assert {name: drawn(**changed) for name, changed in other.items()} == found


def test_modules_from_elsewhere_draw_the_same_again_too():
    """They may ask numpy or Python (SpecAugment of transformers), also when a contrastive loss embeds a second time."""

    def of_others(micro: int) -> tuple[float, ...]:
        drawn(micro=micro)
        return random.random(), float(np.random.rand())

    first = of_others(0)
    assert not set(first) & set(of_others(1))
    assert of_others(0) == first


def test_what_processes_share_is_numbered_through():
    """With ``deterministic=exact`` it does not matter who computes a micro-batch."""
    alone = [drawn(micro=micro, gradients=exact(0, 1, 4)) for micro in range(4)]
    assert len(set(alone)) == 4
    assert [drawn(micro=micro, gradients=exact(rank, 2, 2)) for rank in range(2) for micro in range(2)] == alone
    assert [drawn(gradients=exact(rank, 4, 1)) for rank in range(4)] == alone

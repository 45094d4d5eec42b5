"""Sums of gradients where processes do not have the same ones."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from data.errors import InputError
from modalities.plugin import PluginEncoder
from pretrain.exact import ExactGradients
from pretrain.gradients import Gradients
from pretrain.sharding.shard import shard
from tests.spread import spread

LAYERS = 4


def encoder() -> PluginEncoder:
    torch.manual_seed(0)
    return PluginEncoder(nn.Sequential(*(nn.Linear(3, 3) for _ in range(LAYERS))), width=3)


def left_out(model: PluginEncoder, rank: int) -> None:
    """A backward pass through the first layer and one of the next two; the last is nobody's."""
    x = torch.full((2, 3), 0.5)
    for number in (0, 1 + rank):
        x = model.module[number](x)  # type: ignore[index]
    x.square().sum().backward()


def found(kind: type[Gradients], rank: int, world_size: int) -> list[Any]:
    model = encoder()
    gradients = kind(model, rank, world_size)
    gradients.begin(1)
    left_out(model, rank)
    gradients.take(0)
    gradients.end()
    having = gradients.finish()
    return [None if all(p is not q for q in having) else p.grad for p in model.parameters()]


@pytest.mark.parametrize("kind", [Gradients, ExactGradients])
def test_layers_that_a_foreign_module_leaves_out_on_one_process(tmp_path, kind):
    """Of equal size, so that nothing but the sums would tell that they were added to one another."""
    one, other = spread(2, tmp_path, partial(found, kind))
    alone = [encoder(), encoder()]
    for rank, model in enumerate(alone):
        left_out(model, rank)
    for a, b, p, q in zip(one, other, *(model.parameters() for model in alone), strict=True):
        grads = [x.grad for x in (p, q) if x.grad is not None]
        if grads:
            assert torch.equal(a, b)
            assert torch.equal(a, torch.stack(grads).sum(0))
        else:
            assert a is None
            assert b is None


def test_a_divided_model_takes_no_module_that_leaves_out_layers(tmp_path):
    def work(rank, world_size):
        torchaudio = pytest.importorskip("torchaudio")
        module = torchaudio.models.wav2vec2_base(encoder_layer_drop=0.1)
        model = PluginEncoder(module, width=768)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with pytest.raises(InputError, match=r"Wav2Vec2Model leaves out layers by itself \(layer drop 0.1\)"):
            shard(model, optimizer, init_device_mesh("cpu", (world_size,)))
        return torch.tensor(rank)

    spread(2, tmp_path, work)

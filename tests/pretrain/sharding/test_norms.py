"""One norm for all processes, whoever holds which part of the gradient."""

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from pretrain.sharding.norms import clip
from tests.spread import spread

SHAPES = [(7, 3), (1, 4), (5,)]


def gradients():
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=draw) for shape in [*SHAPES, ()]]


def divided(mesh_shape, limit, spoil):
    def work(rank, world_size):
        mesh = init_device_mesh("cpu", mesh_shape)
        placements = [Replicate()] * (len(mesh_shape) - 1) + [Shard(0)]
        parameters = []
        for grad in gradients():
            whole = not grad.ndim
            p = nn.Parameter(torch.zeros_like(grad) if whole else distribute_tensor(grad * 0, mesh, placements))
            p.grad = grad if whole else distribute_tensor(grad, mesh, placements)
            parameters.append(p)
        if spoil and rank == world_size - 1:
            parameters[0].grad.to_local()[0, 0] = spoil
        norm = clip(parameters, limit)
        assert not isinstance(norm, DTensor)
        return norm, [p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad for p in parameters]

    return work


@pytest.mark.parametrize("limit", [None, 1.0, 100.0])
@pytest.mark.parametrize("mesh_shape", [(2,), (2, 2)])
def test_as_torch_clips_whole_gradients(mesh_shape, limit, tmp_path):
    whole = [nn.Parameter(torch.zeros_like(grad)) for grad in gradients()]
    for p, grad in zip(whole, gradients(), strict=True):
        p.grad = grad
    right = clip(whole, limit)
    ranks = spread(
        mesh_shape[0] * mesh_shape[-1] if len(mesh_shape) > 1 else 2, tmp_path, divided(mesh_shape, limit, 0)
    )
    for norm, found in ranks:
        assert torch.equal(norm, ranks[0][0])
        assert norm == pytest.approx(float(right), rel=1e-6)
        for one, p in zip(found, whole, strict=True):
            torch.testing.assert_close(one, p.grad, rtol=1e-6, atol=0)


@pytest.mark.parametrize("spoil", [float("nan"), float("inf")])
def test_what_is_sick_on_one_process_is_seen_by_all(spoil, tmp_path):
    assert all(not norm.isfinite() for norm, _ in spread(2, tmp_path, divided((2,), 1.0, spoil)))

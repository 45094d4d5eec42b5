import copy

import pytest
import torch
from torch import nn

from pretrain.sharding.norms import clip


def layers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))
    model(torch.randn(4, 5)).square().sum().backward()
    return model


@pytest.mark.parametrize("factor", [0.3, 1.0, 1.0000001, 4.0, None])
def test_clips_as_torch_does(factor):
    mine = layers()
    theirs = copy.deepcopy(mine)
    for own, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        other.grad = own.grad.clone()
    norm = float(nn.utils.get_total_norm([p.grad for p in mine.parameters()]))
    limit = None if factor is None else factor * norm
    found = clip(list(mine.parameters()), limit)
    expected = nn.utils.clip_grad_norm_(theirs.parameters(), float("inf") if limit is None else limit)
    assert torch.equal(found, expected)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))


def test_a_norm_that_is_no_number_reaches_the_gradients():
    model = layers()
    next(model.parameters()).grad[0, 0] = float("nan")
    assert clip(list(model.parameters()), 1.0).isnan()
    assert all(p.grad.isnan().all() for p in model.parameters())

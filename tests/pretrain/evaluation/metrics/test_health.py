import numpy as np
import pytest
import torch

from pretrain.evaluation.metrics.health import alignment, effective_rank, uniformity


def rows(count=300, features=8, seed=0):
    return np.random.default_rng(seed).standard_normal((count, features))


def test_effective_rank_is_the_number_of_equal_directions():
    assert effective_rank(np.eye(6)) == pytest.approx(6)
    assert effective_rank(np.ones((50, 6))) == pytest.approx(1)
    assert effective_rank(np.zeros((5, 3))) == 1
    x = rows()
    s = torch.linalg.svdvals(torch.from_numpy(x))
    p = s / s.sum()
    assert effective_rank(x) == pytest.approx(float(torch.exp(torch.distributions.Categorical(p).entropy())))


def test_alignment_and_uniformity_are_those_of_wang_and_isola():
    """Their code: github.com/SsnL/align_uniform, README."""
    x, y = rows(), rows(seed=1)
    a, b = (torch.nn.functional.normalize(torch.from_numpy(v), dim=1) for v in (x, y))
    assert alignment(x, y) == pytest.approx(float((a - b).norm(p=2, dim=1).pow(2).mean()))
    assert uniformity(x) == pytest.approx(float(torch.pdist(a, p=2).pow(2).mul(-2).exp().mean().log()))


def test_uniformity_is_the_same_in_blocks_and_zero_for_a_collapse():
    x = rows(count=2100)
    a = torch.nn.functional.normalize(torch.from_numpy(x), dim=1)
    assert uniformity(x) == pytest.approx(float(torch.pdist(a, p=2).pow(2).mul(-2).exp().mean().log()))
    assert uniformity(np.ones((10, 3))) == pytest.approx(0)
    assert uniformity(np.ones((1, 3))) == 0

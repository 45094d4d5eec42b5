"""Losses of N x N similarities are the same a block of rows at a time, and then keep what grows with N alone."""

import math

import pytest
import torch
import torch.nn.functional as F

from modalities import similarity
from modalities.contrastive import info_nce
from modalities.siglip import sigmoid_loss
from modalities.views import nt_xent

N, E = 41, 6
SCALE, BIAS, TEMPERATURE = 5.0, -2.0, 0.3


def plain(kind, a, b, scale, bias):
    """(loss, right ones) by the formula over the whole matrix."""
    right = torch.arange(N)
    if kind == "views":
        views = torch.cat((a, b))
        logits = (views @ views.T / TEMPERATURE).masked_fill(torch.eye(2 * N, dtype=torch.bool), -math.inf)
        other = torch.arange(2 * N).roll(N)
        return F.cross_entropy(logits, other, reduction="sum") / 2, (logits.argmax(1) == other).sum() / 2
    logits = scale * a @ b.T + (bias if kind == "siglip" else 0)
    hits = ((logits.argmax(1) == right).sum() + (logits.argmax(0) == right).sum()) / 2
    if kind == "siglip":
        return -F.logsigmoid((2 * torch.eye(N) - 1) * logits).sum(), hits
    both = F.cross_entropy(logits, right, reduction="sum") + F.cross_entropy(logits.T, right, reduction="sum")
    return both / 2, hits


OURS = {
    "info_nce": lambda a, b, scale, bias: info_nce(a, b, scale),
    "siglip": sigmoid_loss,
    "views": lambda a, b, scale, bias: nt_xent(a, b, TEMPERATURE),
}


def found(loss, kind):
    generator = torch.Generator().manual_seed(3)
    a = F.normalize(torch.randn(N, E, generator=generator), dim=-1)
    b = F.normalize(a + 0.4 * torch.randn(N, E, generator=generator), dim=-1)
    given = [x.requires_grad_() for x in (a, b, torch.tensor(SCALE), torch.tensor(BIAS))]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        value, hits = loss(*given)
    grads = torch.autograd.grad(3 * value, given, allow_unused=True)
    return value, hits, [g for g in grads if g is not None], max(kept)


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("at_once", [3 * N, 7 * N, 40 * N, 2**26])
def test_blocks_give_loss_and_gradients_of_the_whole(kind, at_once, monkeypatch):
    monkeypatch.setattr(similarity, "AT_ONCE", at_once)
    value, hits, grads, kept = found(OURS[kind], kind)
    expected, right, whole, _ = found(lambda *given: plain(kind, *given), kind)
    assert 0 < right < N  # both kinds are there
    torch.testing.assert_close(value, expected)
    assert hits == right
    torch.testing.assert_close(grads, whole)
    width = 2 * N if kind == "views" else N
    blocks = -(-width // max(1, at_once // width))
    assert (kept >= width * width) == (blocks == 1)


def test_a_tie_between_blocks_is_the_first_ones(monkeypatch):
    a = b = torch.eye(2)[[0, 0, 1, 1]]  # rows 0 and 1 are alike, so are 2 and 3
    whole = info_nce(a, b, torch.tensor(2.0))[1]
    monkeypatch.setattr(similarity, "AT_ONCE", 4)
    assert info_nce(a, b, torch.tensor(2.0))[1] == whole == 2


@pytest.mark.parametrize("loss", [lambda a: info_nce(a, a, torch.tensor(9.0)), lambda a: nt_xent(a, a, 0.5)])
def test_hits_are_counted_whatever_the_default_type_is(loss):
    """Bfloat16 has no 1001."""
    a = F.normalize(torch.randn(1001, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert float(loss(a)[1]) == 1001
    finally:
        torch.set_default_dtype(before)

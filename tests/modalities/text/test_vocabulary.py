import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from modalities.text import vocabulary
from modalities.text.vocabulary import vocabulary_loss

M, V, D = 50, 301, 12


def inputs(dtype=torch.float64):
    draw = torch.manual_seed(0)
    given = [torch.randn(*shape, dtype=dtype, generator=draw).requires_grad_() for shape in ((M, D), (V, D), (V,))]
    return given, torch.randint(V, (M,), generator=draw)


@pytest.mark.parametrize("chunk", [1, 17 * V, 1 << 20])
@pytest.mark.parametrize("biased", [True, False])
def test_loss_hits_and_gradients_are_those_of_dense_logits(monkeypatch, chunk, biased):
    monkeypatch.setitem(vocabulary._CHUNK, "cpu", chunk)
    (hidden, weight, bias), labels = inputs()
    logits = hidden @ weight.T + (bias if biased else 0)
    expected = F.cross_entropy(logits, labels, reduction="sum")
    leaves = [hidden, weight, bias] if biased else [hidden, weight]
    slopes = torch.autograd.grad(expected * 0.3, leaves)
    loss, hits = vocabulary_loss(hidden, weight, bias if biased else None, labels)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    assert int(hits) == int((logits.argmax(-1) == labels).sum())
    for found, right in zip(torch.autograd.grad(loss * 0.3, leaves), slopes, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12)


def test_only_what_is_asked_for_has_a_gradient():
    (hidden, weight, bias), labels = inputs()
    loss, _ = vocabulary_loss(hidden, weight.detach(), bias, labels)  # a frozen embedding
    loss.backward()
    assert hidden.grad is not None
    assert weight.grad is None
    assert bias.grad is not None
    with torch.no_grad():
        still, _ = vocabulary_loss(hidden, weight, bias, labels)
    assert not still.requires_grad
    assert torch.equal(still, loss.detach())


def test_measuring_computes_no_gradient():
    """Leaves ask for theirs under ``no_grad`` too, and that of the vocabulary costs as much as all its logits."""
    (hidden, weight, bias), labels = inputs()
    whole, hits = vocabulary_loss(hidden, weight, bias, labels)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        loss, found = vocabulary_loss(hidden, weight, bias, labels)
    assert counter.get_total_flops() == 2 * M * V * D  # the logits
    assert torch.equal(loss, whole.detach())
    assert torch.equal(found, hits)


def test_a_second_backward_pass_is_refused():
    (hidden, weight, bias), labels = inputs()
    loss, _ = vocabulary_loss(hidden, weight, bias, labels)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass alone"):
        loss.backward()


def test_autocast_multiplies_in_half_precision_and_adds_in_single():
    (hidden, weight, bias), labels = inputs(torch.float32)
    slopes = torch.autograd.grad(vocabulary_loss(hidden, weight, bias, labels)[0], [hidden, weight, bias])
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = vocabulary_loss(hidden, weight, bias, labels)
        dense = F.cross_entropy(F.linear(hidden, weight, bias).float(), labels, reduction="sum")
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, dense, rtol=1e-3, atol=0)
    for found, right in zip(torch.autograd.grad(loss, [hidden, weight, bias]), slopes, strict=True):
        assert found.dtype == torch.float32
        assert (found - right).norm() < 0.02 * right.norm()


def test_of_tokens_that_tie_for_the_first_place_one_alone_is_a_hit():
    """In half precision ties are common; counted for each of them, they make an accuracy of more than there is."""
    (hidden, weight, _), _ = inputs(torch.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = F.linear(hidden, torch.cat((weight, weight)))
        best = logits[:, :V].argmax(1)
        counts = [int(vocabulary_loss(hidden, torch.cat((weight, weight)), None, best + more)[1]) for more in (0, V)]
    assert sum(counts) == M

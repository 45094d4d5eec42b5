import pytest
import torch

from modalities.attention import Rotary, _padded, packed_attention, rotate
from modalities.layout import Layout

LENGTHS = [[5, 5, 5], [3, 1, 7, 4], [1], [1, 6]]


def block_mask(q, k, v, layout, causal):
    """The definition: softmax over the rows of one's own sequence, in one (T, T) matrix."""
    allowed = layout.sequence[:, None] == layout.sequence[None]
    if causal:
        allowed &= layout.position[:, None] >= layout.position[None]
    scores = torch.einsum("qhe,khe->hqk", q, k) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
    return torch.einsum("hqk,khe->qhe", weights, v)


def gradients(attention, inputs, layout, causal):
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = attention(*leaves, layout, causal)
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_packed_is_padded_is_block_mask_with_gradients(lengths, causal):
    layout = Layout(lengths)
    inputs = [torch.randn(sum(lengths), 2, 8, dtype=torch.float64, generator=torch.manual_seed(s)) for s in range(3)]
    expected = gradients(block_mask, inputs, layout, causal)
    for attention in (packed_attention, lambda *given: _padded(*given, dropout=0.0)):
        for found, right in zip(gradients(attention, inputs, layout, causal), expected, strict=True):
            torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12)


def test_inputs_that_are_views_of_one_projection_are_taken():
    layout = Layout([4, 4])
    qkv = torch.randn(8, 3, 2, 8)
    q, k, v = qkv.unbind(1)
    torch.testing.assert_close(packed_attention(q, k, v, layout), block_mask(q, k, v, layout, False))


def test_rotary_scores_depend_on_distance_alone():
    rotary, layout = Rotary(8), Layout([12])
    q, k = torch.randn(1, 1, 8).expand(12, 1, 8), torch.randn(1, 1, 8).expand(12, 1, 8)
    angles = rotary.angles(layout, torch.device("cpu"))
    scores = torch.einsum("qhe,khe->qk", rotate(q, angles), rotate(k, angles))
    for distance in range(-11, 12):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert scores.std() > 0.01
    torch.testing.assert_close(rotate(q, angles).norm(dim=-1), q.norm(dim=-1))
    with pytest.raises(ValueError, match="even number"):
        Rotary(7)


def test_rotary_restarts_in_each_sequence():
    cos, sin = Rotary(4).angles(Layout([3, 5]), torch.device("cpu"))
    assert torch.equal(cos[:3], cos[3:6])
    assert torch.equal(sin[:3], sin[3:6])

import pytest
import torch

from data.errors import InputError
from modalities import attention
from modalities.attention import Rotary, attend, packed_attention, rotate
from modalities.layout import Layout
from modalities.reach import Reach

LENGTHS = [[5, 5, 5], [3, 1, 7, 4], [1], [1, 6], [4, 4, 2, 2, 2, 9]]
REACHES = [(causal, window) for causal in (False, True) for window in (0, 1, 3)]


def block_mask(q, k, v, layout, causal, window=0):
    """The definition: softmax over the rows of one's own sequence, in one (T, T) matrix."""
    away = layout.position[:, None] - layout.position[None]
    allowed = layout.sequence[:, None] == layout.sequence[None]
    if causal:
        allowed &= away >= 0
    if window:
        allowed &= away.abs() <= window
    scores = torch.einsum("qhe,khe->hqk", q, k) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
    return torch.einsum("hqk,khe->qhe", weights, v)


def padded(q, k, v, layout, causal, window):
    return attention._padded(q, k, v, Reach(layout, causal, window), 0.0)


def tiled(q, k, v, layout, causal, window):
    return attention._tiled(q, k, v, Reach(layout, causal, window), 0.0)


def packed(q, k, v, layout, causal, window):
    return packed_attention(q, k, v, layout, causal, 0.0, window)


def gradients(attention, inputs, *given):
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = attention(*leaves, *given)
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def draw(rows, heads=2, features=8):
    return [torch.randn(rows, heads, features, dtype=torch.float64, generator=torch.manual_seed(s)) for s in range(3)]


@pytest.mark.parametrize(("causal", "window"), REACHES)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_every_path_is_the_block_mask_with_gradients(lengths, causal, window):
    given = (Layout(lengths), causal, window)
    inputs = draw(sum(lengths))
    expected = gradients(block_mask, inputs, *given)
    for path in (packed, tiled, padded):
        for found, right in zip(gradients(path, inputs, *given), expected, strict=True):
            torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", [[200], [64, 65, 129, 30, 3], [128, 128]])
def test_a_window_over_long_sequences_is_a_band_of_full_attention(lengths, causal):
    """Longer than a block of queries, so that several blocks share keys."""
    given = (Layout(lengths), causal, 20)
    assert len(Reach(*given).tiles) > len(lengths)
    inputs = draw(sum(lengths))
    for path in (packed, tiled, padded):
        for found, right in zip(gradients(path, inputs, *given), gradients(block_mask, inputs, *given), strict=True):
            torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12)


def test_a_window_that_long_sequences_fit_in_beside_one_that_does_not():
    given = (Layout([270, 500]), True, 280)
    assert [tile.lead for tile in Reach(*given).tiles] == [None, 90, 180, 0]
    inputs = draw(770)
    for found, right in zip(gradients(packed, inputs, *given), gradients(block_mask, inputs, *given), strict=True):
        torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("lengths", [[300], [7, 256, 256, 5], [255, 700, 768, 40]])
def test_long_causal_sequences_are_cut_into_what_is_seen(lengths):
    given = (Layout(lengths), True, 0)
    reach = Reach(*given)
    assert sum(tile.queries * tile.times for tile in reach.tiles) == sum(lengths)
    masked = [tile.queries for tile in reach.tiles if tile.lead is not None]
    assert len(masked) == sum(-(-n // 128) - 1 for n in lengths if n in range(256, 768))
    assert max(masked) <= 128
    inputs = draw(sum(lengths))
    for path in (packed, tiled, padded):
        for found, right in zip(gradients(path, inputs, *given), gradients(block_mask, inputs, *given), strict=True):
            torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_rotation_is_part_of_it_with_gradients(lengths):
    layout = Layout(lengths)
    angles = Rotary(8).angles(layout, torch.device("cpu"))
    inputs = draw(sum(lengths))

    def expected(q, k, v):
        return block_mask(rotate(q, angles), rotate(k, angles), v, layout, False)

    def found(q, k, v):
        return attend(torch.stack((q, k, v), 1), angles, Reach(layout))

    for mine, right in zip(gradients(found, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-10, atol=1e-12)


def test_inputs_that_are_views_of_one_projection_are_taken_and_kept():
    layout = Layout([4, 4])
    qkv = torch.randn(8, 3, 2, 8)
    before = qkv.clone()
    found = attend(qkv, Rotary(8).angles(layout, qkv.device), Reach(layout))
    assert found.shape == (8, 2, 8)
    assert torch.equal(qkv, before)
    q, k, v = qkv.unbind(1)
    torch.testing.assert_close(packed_attention(q, k, v, layout), block_mask(q, k, v, layout, False))


def test_dropout_leaves_out_weights_and_keeps_their_mean():
    layout, (q, k, v) = Layout([6, 9]), draw(15)
    torch.manual_seed(0)
    drawn = torch.stack([packed_attention(q, k, v, layout, dropout=0.4) for _ in range(3000)])
    assert drawn.std(0).min() > 0.01
    error = (drawn.mean(0) - packed_attention(q, k, v, layout)).abs() / (drawn.std(0) / len(drawn) ** 0.5)
    assert error.max() < 5


def test_variable_length_kernel_gets_rows_and_reach(monkeypatch):
    """No such device here: what would be handed over is checked, and that the kernel's own words are understood."""
    seen = []

    def kernel(q, k, v, starts, ends, longest, longest_key, *, window_size):
        assert starts is ends
        seen.append((starts.dtype, starts.tolist(), longest, longest_key, window_size))
        return v

    monkeypatch.setattr(attention, "_kernel", lambda: kernel)
    monkeypatch.setattr(attention, "_has_kernel", lambda *_: True)
    for causal, window in [(False, 0), (True, 0), (False, 2), (True, 2)]:
        attend(torch.randn(8, 3, 2, 8, device="meta"), None, Reach(Layout([3, 5]), causal, window))
    assert [s[:4] for s in seen] == [(torch.int32, [0, 3, 8], 5, 5)] * 4
    assert [s[4] for s in seen] == [(-1, -1), (-1, 0), (2, 2), (2, 0)]


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
    with pytest.raises(InputError, match="even number"):
        Rotary(7)
    with pytest.raises(InputError, match="rotary base 0"):
        Rotary(8, 0)


def test_rotary_restarts_in_each_sequence():
    cos, sin = Rotary(4).angles(Layout([3, 5]), torch.device("cpu"))
    assert torch.equal(cos[:3], cos[3:6])
    assert torch.equal(sin[:3], sin[3:6])


def test_a_second_derivative_is_refused_also_of_a_sum():
    qkv = torch.randn(12, 3, 2, 8, requires_grad=True)
    out = attend(qkv, None, Reach(Layout([5, 7])))
    with pytest.raises(RuntimeError, match="Ragged has no second derivative"):
        torch.autograd.grad(out.sum(), qkv, create_graph=True)

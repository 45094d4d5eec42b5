import pickle

import pytest
import torch

from modalities.layout import Layout


@pytest.mark.parametrize("lengths", [[3], [1, 1, 1], [4, 4], [2, 5, 1, 3]])
def test_rows_and_pools_are_those_of_a_plain_loop(lengths):
    layout, x = Layout(lengths), torch.randn(sum(lengths), 6)
    parts = x.split(lengths)
    assert layout.total == sum(lengths)
    assert layout.sequence.tolist() == [i for i, n in enumerate(lengths) for _ in range(n)]
    assert layout.position.tolist() == [p for n in lengths for p in range(n)]
    assert layout.offsets.tolist() == [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    torch.testing.assert_close(layout.mean(x), torch.stack([part.mean(0) for part in parts]))
    assert torch.equal(layout.max(x), torch.stack([part.amax(0) for part in parts]))
    assert torch.equal(layout.first(x), torch.stack([part[0] for part in parts]))
    assert torch.equal(layout.last(x), torch.stack([part[-1] for part in parts]))


@pytest.mark.parametrize("lengths", [[4, 4], [2, 5, 1, 3]])
def test_the_gradient_of_a_maximum_goes_to_where_it_is(lengths):
    layout, x = Layout(lengths), torch.randn(sum(lengths), 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(len(lengths), 6, dtype=torch.float64)
    [found] = torch.autograd.grad((layout.max(x) * weight).sum(), x)
    pooled = torch.stack([part.amax(0) for part in x.split(lengths)])
    [expected] = torch.autograd.grad((pooled * weight).sum(), x)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lengths", [[1000, 1000], [1000, 3]])
def test_long_sequences_are_added_up_in_float32(lengths, dtype):
    layout = Layout(lengths)
    x = torch.full((sum(lengths), 2), 100, dtype=dtype)
    found = layout.mean(x)
    assert found.dtype == layout.max(x).dtype == dtype
    assert torch.equal(found, torch.full((2, 2), 100, dtype=dtype))
    x[layout.offsets[1:] - 1] = 200  # the last of each, which stands for all beyond its end
    [grad] = torch.autograd.grad(layout.max(x.requires_grad_()).sum(), x)
    assert torch.equal(grad, (x == 200).to(dtype))


@pytest.mark.parametrize("lengths", [[], [3, 0]])
def test_empty_sequences_are_refused(lengths):
    with pytest.raises(ValueError, match="no empty one"):
        Layout(lengths)


def test_pinned_indexes_are_what_is_copied_to_a_device(monkeypatch):
    pins = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pins.append(self) or self)
    layout = Layout([2, 5, 1])
    pinned = layout.pin_memory()
    assert len(pins) == 3
    assert pinned.lengths == layout.lengths
    monkeypatch.setattr(torch, "from_numpy", None)  # nothing is made anew
    for name in ("offsets", "sequence", "position"):
        assert torch.equal(getattr(pinned, name), getattr(layout, name))
        assert getattr(pinned.to("meta"), name).device.type == "meta"
    assert pinned.to("meta").device.type == "meta"
    assert layout.to("cpu") is layout


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_layout_is_the_same_in_another_process(device, used):
    layout = Layout([2, 5, 1], device)
    if used:
        assert layout.offsets.device.type == device
    found = pickle.loads(pickle.dumps(layout))  # noqa: S301
    assert (found.lengths, found.device, found.total) == (layout.lengths, layout.device, 8)
    assert ("offsets" in vars(found)) == ("offsets" in vars(layout))
    if device == "cpu":
        assert torch.equal(found.sequence, layout.sequence)
        assert torch.equal(found.offsets, layout.offsets)

"""The layer at the end of a branch equals ``torch.nn.Linear`` and a sum."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modalities.lora import LoRALinear
from modalities.residual import ResidualLinear


@pytest.fixture(params=[True, False], ids=["bias", "no bias"])
def layer(request):
    torch.manual_seed(0)
    return ResidualLinear(24, 16, bias=request.param)


def draw(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(10, 24, generator=generator, dtype=dtype, requires_grad=True),
        torch.randn(10, 16, generator=generator, dtype=dtype, requires_grad=True),
    )


def plain(layer, x, bypass):
    return bypass + nn.functional.linear(x, layer.weight, layer.bias)


def test_in_training_it_is_the_sum_and_so_are_its_gradients(layer):
    layer.double()
    (x, bypass), parameters = draw(torch.float64), list(layer.parameters())
    weights = torch.linspace(-1, 1, 160, dtype=torch.float64).view(10, 16)
    ours, theirs = layer(x, bypass), plain(layer, x, bypass)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)
    wanted = torch.autograd.grad((theirs * weights).sum(), [x, bypass, *parameters])
    found = torch.autograd.grad((ours * weights).sum(), [x, bypass, *parameters])
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)
        assert one.stride() == other.stride()  # an optimizer keeps its moments in the layout of gradients
    assert torch.autograd.gradgradcheck(lambda x, y: layer(x, y), draw(torch.float64))


def test_what_goes_past_the_branch_is_left_as_it_is(layer):
    x, bypass = draw()
    before = bypass.detach().clone()
    layer(x, bypass).sum().backward()
    assert torch.equal(bypass, before)
    assert torch.equal(bypass.grad, torch.ones(10, 16))


@torch.no_grad()
def test_where_nothing_is_learned_bits_are_those_of_the_plain_layer(layer):
    x, bypass = draw()
    assert torch.equal(layer(x, bypass), plain(layer, x, bypass))
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_under_autocast_the_product_is_in_half_precision_and_the_sum_is_not(layer):
    x, bypass = draw()
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = layer(x, bypass), plain(layer, x, bypass)
    assert ours.dtype == torch.float32
    assert torch.equal(ours, theirs)


def test_with_an_update_beside_the_weight_too(layer):
    adapted = LoRALinear(layer, 4, 8.0)
    x, bypass = draw()
    nn.init.normal_(adapted.lora_b)
    merged = ResidualLinear(24, 16, bias=layer.bias is not None)
    merged.load_state_dict({**layer.state_dict(), "weight": layer.weight + 2 * adapted.lora_b @ adapted.lora_a})
    torch.testing.assert_close(adapted(x, bypass), merged(x, bypass), rtol=0, atol=1e-5)
    (adapted(x, bypass) ** 2).sum().backward()
    assert adapted.lora_a.grad.abs().sum() > 0

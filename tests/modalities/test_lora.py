import pytest
import torch
from torch import nn

from data.errors import InputError
from modalities.layout import Layout
from modalities.lora import LoRALinear, add_lora, is_update, merged
from modalities.text.encoder import TextEncoder

LAYERS = ["attention_in", "attention_out", "mlp_in", "mlp_out"]


def encoder():
    torch.manual_seed(0)
    return TextEncoder(vocab_size=50, width=16, depth=2, heads=2)


def inputs():
    return {"tokens": torch.arange(12), "layout": Layout([5, 7]), "size": 2}


def taught():
    """An encoder with updates that are not zero, and its base."""
    plain, own = encoder(), encoder()
    add_lora(own, rank=3, alpha=6, layers=LAYERS)
    for name, parameter in own.named_parameters():
        if is_update(name):
            nn.init.normal_(parameter)
    return plain, own


def test_it_begins_as_what_it_was():
    plain, own = encoder(), encoder()
    add_lora(own, rank=3, alpha=6, layers=LAYERS)
    assert torch.equal(plain(inputs()).tokens, own(inputs()).tokens)
    assert sum(isinstance(module, LoRALinear) for module in own.modules()) == 8
    assert {name for name in own.state_dict() if not is_update(name)} == set(plain.state_dict())


def test_merged_is_the_same_to_the_bit_and_has_the_names_of_plain_layers():
    plain, own = taught()
    state = merged(own.state_dict())
    assert set(state) == set(plain.state_dict())
    expected = own(inputs()).tokens
    assert not torch.allclose(expected, plain(inputs()).tokens)
    plain.load_state_dict(state)
    assert torch.equal(plain(inputs()).tokens, expected)


def test_the_update_is_alpha_over_rank_times_b_a():
    layer = LoRALinear(nn.Linear(4, 5), rank=2, alpha=8)
    nn.init.normal_(layer.lora_b)
    x = torch.randn(3, 4)
    by_hand = x @ layer.weight.T + 4 * (x @ layer.lora_a.T @ layer.lora_b.T) + layer.bias
    torch.testing.assert_close(layer(x), by_hand)


def test_only_updates_are_trained():
    _, own = taught()
    own(inputs()).tokens.square().sum().backward()
    for name, parameter in own.named_parameters():
        assert parameter.requires_grad == is_update(name), name
        assert (parameter.grad is not None) == is_update(name), name


def test_autocast_does_not_round_the_merged_weight():
    _, own = taught()
    plain = encoder()
    plain.load_state_dict(merged(own.state_dict()))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plain(inputs()).tokens, own(inputs()).tokens)


@pytest.mark.parametrize("layers", [["attention_inn"], []])
def test_a_layer_that_is_not_there_is_named(layers):
    with pytest.raises(InputError, match=r"lora.layers names .* no linear layer of encoders.text; .*attention_in"):
        add_lora(encoder(), 2, 4, layers, "encoders.text")

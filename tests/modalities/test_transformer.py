import pytest
import torch
from torch import nn

from data.errors import InputError
from modalities.layout import Layout
from modalities.transformer import Transformer

LENGTHS = [3, 7, 1, 5]


def trunk(**options):
    torch.manual_seed(0)
    made = Transformer(16, 2, 4, **options).double()
    with torch.no_grad():  # so that neither a norm's gain nor a bias is what it begins as
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return made.eval()


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rotary", [False, True])
def test_sequences_together_are_as_one_by_one(norm, causal, rotary):
    model, x = trunk(norm=norm, causal=causal, rotary=rotary), torch.randn(sum(LENGTHS), 16, dtype=torch.float64)
    together = model(x, Layout(LENGTHS))
    alone = torch.cat([model(part, Layout([len(part)])) for part in x.split(LENGTHS)])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-10)


def test_causal_cannot_see_the_future_and_bidirectional_can():
    x, layout = torch.randn(6, 16, dtype=torch.float64), Layout([6])
    changed = x.clone()
    changed[4] = torch.randn(16)
    causal, both = trunk(causal=True), trunk()
    assert torch.equal(causal(x, layout)[:4], causal(changed, layout)[:4])
    assert not torch.allclose(causal(x, layout)[4:], causal(changed, layout)[4:])
    assert not torch.allclose(both(x, layout)[:4], both(changed, layout)[:4])


def test_rotary_sees_positions_and_plain_attention_does_not():
    x, layout = torch.randn(5, 16, dtype=torch.float64), Layout([5])
    turned = x.flip(0)
    plain, rotary = trunk(rotary=False), trunk(rotary=True)
    torch.testing.assert_close(plain(turned, layout).flip(0), plain(x, layout))
    assert not torch.allclose(rotary(turned, layout).flip(0), rotary(x, layout))


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_it_is_torchs_own_encoder_layer(norm):
    model = trunk(norm=norm, rotary=False)
    layer = nn.TransformerEncoderLayer(16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=norm == "pre").double()
    x = torch.randn(2, 6, 16, dtype=torch.float64)
    expected = x
    for block in model.blocks:
        layer.load_state_dict(
            {
                "self_attn.in_proj_weight": block.attention_in.weight,
                "self_attn.in_proj_bias": block.attention_in.bias,
                "self_attn.out_proj.weight": block.attention_out.weight,
                "self_attn.out_proj.bias": block.attention_out.bias,
                "linear1.weight": block.mlp_in.weight,
                "linear1.bias": block.mlp_in.bias,
                "linear2.weight": block.mlp_out.weight,
                "linear2.bias": block.mlp_out.bias,
                "norm1.weight": block.attention_norm.weight,
                "norm1.bias": block.attention_norm.bias,
                "norm2.weight": block.mlp_norm.weight,
                "norm2.bias": block.mlp_norm.bias,
            }
        )
        expected = layer(expected)
    expected = model.norm(expected)
    torch.testing.assert_close(model(x.flatten(0, 1), Layout([6, 6])).view(2, 6, 16), expected, rtol=1e-9, atol=1e-10)


def test_dropout_is_off_in_evaluation_and_on_in_training():
    model, x, layout = trunk(dropout=0.3), torch.randn(6, 16, dtype=torch.float64), Layout([6])
    assert torch.equal(model(x, layout), model(x, layout))
    model.train()
    assert not torch.allclose(model(x, layout), model(x, layout))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "mid"}, "norm 'mid' is unknown; choices: pre, post"),
        ({"activation": "tanh"}, "activation 'tanh'"),
        ({"heads": 3}, "heads=3 does not divide width=16"),
        ({"heads": 16}, "even width a head, got 16/16"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        Transformer(**({"width": 16, "depth": 1, "heads": 4} | options))

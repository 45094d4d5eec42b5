import pytest
import torch
import torch.nn.functional as F
from torch import nn

from data.errors import InputError
from modalities.initialisation import RECIPES
from modalities.layout import Layout
from modalities.transformer import Transformer, trunk_of

LENGTHS = [3, 7, 1, 5]


def trunk(**options):
    torch.manual_seed(0)
    made = Transformer(**({"width": 16, "depth": 2, "heads": 4} | options)).double()
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


EVERY_SETTING = [
    {"norm_kind": "rms", "norm_eps": 1e-3},
    {"activation": "geglu", "bias": False, "norm_bias": False},
    {"activation": "swiglu", "attention_bias": False},
    {"activation": "quick_gelu", "norm": "post", "input_norm": True},
    {"activation": "tanh_gelu", "first_norm": False, "final_norm": False, "mlp_bias": False},
    {"head_width": 6, "window": 1, "global_every": 2, "local_rotary_base": 100.0},
    {"heads": 3, "head_width": 4, "window": 2, "global_every": 2, "causal": True},
]


@pytest.mark.parametrize("options", EVERY_SETTING)
def test_together_is_one_by_one_and_checkpointing_changes_no_bit(options):
    options = {"heads": 4} | options
    x, layout = torch.randn(sum(LENGTHS), 16, dtype=torch.float64), Layout(LENGTHS)
    model = trunk(**options)
    alone = torch.cat([model(part, Layout([len(part)])) for part in x.split(LENGTHS)])
    torch.testing.assert_close(model(x, layout), alone, rtol=1e-9, atol=1e-10)
    draws = {"dropout": 0.2, "mlp_dropout": 0.1, "input_dropout": 0.1}
    found = {}
    for blocks in ("none", "all", 2):
        model = trunk(**options, **draws, checkpoint_blocks=blocks).train()
        leaf = x.clone().requires_grad_()
        torch.manual_seed(5)
        out = model(leaf, layout)
        (out**2).sum().backward()
        found[blocks] = [out, leaf.grad, *(p.grad for p in model.parameters())]
    for blocks in ("all", 2):
        assert all(torch.equal(a, b) for a, b in zip(found["none"], found[blocks], strict=True))


def test_gated_perceptrons_and_norms_are_their_formulas():
    x, none = torch.randn(7, 16, dtype=torch.float64), torch.zeros(7, 16, dtype=torch.float64)
    for name, inner in (("geglu", F.gelu), ("swiglu", F.silu)):
        block = trunk(activation=name, mlp_ratio=1.5).blocks[0]
        first, second = block.mlp_in(x).split(24, -1)
        torch.testing.assert_close(block._mlp(none, x), block.mlp_out(inner(first) * second))
    block = trunk(activation="quick_gelu").blocks[0]
    inner = block.mlp_in(x)
    torch.testing.assert_close(block._mlp(none, x), block.mlp_out(inner / (1 + torch.exp(-1.702 * inner))))
    block = trunk(norm_kind="rms", norm_eps=0.1).blocks[0]
    expected = x / (x.pow(2).mean(-1, keepdim=True) + 0.1).sqrt() * block.mlp_norm.weight
    torch.testing.assert_close(block.mlp_norm(x), expected)


def test_local_blocks_see_their_window_and_global_ones_everything():
    layout, x = Layout([20]), torch.randn(20, 16, dtype=torch.float64)
    changed = x.clone()
    changed[19] += 1
    local = trunk(window=3, global_every=2)
    far = local.blocks[1](changed, *local._views(layout, x.device)[1]) - local.blocks[1](
        x, *local._views(layout, x.device)[1]
    )
    assert torch.equal(far[:16], torch.zeros_like(far[:16]))
    assert far[16:].abs().amax(1).min() > 0
    assert (local(changed, layout) - local(x, layout)).abs().amax(1).min() > 0  # by way of block 0


def test_biases_are_where_they_were_asked_for():
    def names(**options):
        return {
            n.removeprefix("blocks.0.") for n, _ in Transformer(16, 1, 4, **options).named_parameters() if "bias" in n
        }

    attention, mlp = {"attention_in.bias", "attention_out.bias"}, {"mlp_in.bias", "mlp_out.bias"}
    norms = {"attention_norm.bias", "mlp_norm.bias", "norm.bias"}
    assert names() == attention | mlp | norms
    assert names(bias=False) == norms
    assert names(attention_bias=False) == mlp | norms
    assert names(mlp_bias=False, norm_bias=False) == attention
    assert names(bias=False, attention_bias=True, norm_kind="rms") == attention


@pytest.mark.parametrize("recipe", RECIPES)
def test_initial_weights_have_the_spread_of_their_recipe(recipe):
    torch.manual_seed(0)
    width, depth = 128, 8
    blocks = Transformer(width, depth, 4, initialisation=recipe).blocks
    out = {"gpt2": 0.005, "modernbert": 0.005, "clip": width**-0.5 / 4}.get(recipe, 0.02)
    into = {"clip": width**-0.5}.get(recipe, 0.02)
    up = {"clip": (2 * width) ** -0.5}.get(recipe, 0.02)
    cut = 0.8796 if recipe == "modernbert" else 1.0  # spread of a normal distribution cut off at two deviations
    for layer, std in (("attention_in", into), ("attention_out", out), ("mlp_in", up), ("mlp_out", out)):
        weights = torch.stack([getattr(block, layer).weight for block in blocks])
        assert weights.std().item() == pytest.approx(cut * std, rel=0.02)
        assert all(torch.count_nonzero(getattr(block, layer).bias) == 0 for block in blocks)
        if recipe == "modernbert":
            assert weights.abs().max() <= 2 * std


def test_settings_of_an_encoders_trunk_are_checked():
    given = {"width": 16, "depth": 1, "heads": 4}
    assert trunk_of({"norm_kind": "rms"}, **given).norm.weight.shape == (16,)
    with pytest.raises(InputError, match=r"unknown key 'trunk.norm_knd'; did you mean 'norm_kind'\?"):
        trunk_of({"norm_knd": "rms"}, **given)
    with pytest.raises(InputError, match=r"unknown key 'trunk.width'"):
        trunk_of({"width": 32}, **given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "mid"}, "norm 'mid' is unknown; choices: pre, post"),
        ({"activation": "tanh"}, "activation 'tanh'"),
        ({"heads": 3}, "heads=3 does not divide width=16"),
        ({"heads": 16}, r"even width a head, got 1 \(16/16\)"),
        ({"norm_kind": "batch"}, "norm_kind 'batch' is unknown; choices: layer, rms"),
        ({"norm_eps": 0}, "norm_eps=0 must be positive"),
        ({"window": -1}, "window=-1"),
        ({"layer_drop": 1.0}, "layer_drop=1.0 is not a share"),
        ({"initialisation": "brt"}, "initialisation 'brt' is unknown; did you mean 'bert'"),
        ({"checkpoint_blocks": "some"}, "checkpoint_blocks='some' is unknown; choices: none, all, k"),
        ({"checkpoint_blocks": 0}, "checkpoint_blocks=0"),
        ({"norm": "post", "first_norm": False}, "norm=post has none there"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        Transformer(**({"width": 16, "depth": 1, "heads": 4} | options))

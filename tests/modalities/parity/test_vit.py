"""ViT: outputs and gradients equal those of ``transformers`` (class token) and timm (mean), the same random weights."""

import pytest
import torch

from modalities.hf_names import Name, blocks, plain, to_ours, to_theirs
from modalities.image.encoder import ImageEncoder
from modalities.image.hf_names import vit
from tests.modalities.parity.numbers import gradients, randomise, same

HALF = (0.5, 0.5, 0.5)
DEPTH, WIDTH, SIDE, PATCH = 3, 32, 24, 8


@pytest.fixture
def pixels():
    return torch.randint(0, 256, (4, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_equals_transformers(pixels, dtype):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=4, intermediate_size=128, image_size=SIDE,
        patch_size=PATCH, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    theirs = transformers.ViTModel(config, add_pooling_layer=False)
    randomise(theirs.to(dtype))
    ours = ImageEncoder(
        SIDE, PATCH, WIDTH, DEPTH, 4, pool="first", mean=HALF, spread=HALF, trunk={"norm_eps": config.layer_norm_eps}
    )
    table = vit(DEPTH, WIDTH, PATCH)
    ours.to(dtype).load_state_dict(to_ours(table, theirs.state_dict()))
    expected = theirs.train()(pixels.to(dtype) / 127.5 - 1).last_hidden_state
    found = ours({"pixels": pixels}).tokens
    same({"tokens": found.view_as(expected)}, {"tokens": expected})
    assert torch.equal(ours.pooled({"pixels": pixels}), found.view_as(expected)[:, 0])
    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    (found.view_as(expected) * weight).sum().backward()
    same(to_theirs(table, gradients(ours)), gradients(theirs))
    same(to_theirs(table, ours.state_dict()), dict(theirs.state_dict()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("class_token", [True, False])
def test_mean_equals_timm(pixels, class_token, dtype):
    models = pytest.importorskip("timm.models.vision_transformer")
    theirs = models.VisionTransformer(
        img_size=SIDE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=4, num_classes=0, global_pool="avg",
        class_token=class_token,
    )  # fmt: skip
    randomise(theirs.to(dtype))
    ours = ImageEncoder(
        SIDE, PATCH, WIDTH, DEPTH, 4, class_token=class_token, pooled_norm=True, mean=HALF, spread=HALF,
        trunk={"norm_eps": 1e-6},
    )  # fmt: skip
    parts = {
        "attention_norm": "norm1", "attention_in": "attn.qkv", "attention_out": "attn.proj", "mlp_norm": "norm2",
        "mlp_in": "mlp.fc1", "mlp_out": "mlp.fc2",
    }  # fmt: skip
    table = [
        Name("positions", ("pos_embed",), (-1, WIDTH), (1, -1, WIDTH)),
        Name("patch_embedding.weight", ("patch_embed.proj.weight",), (WIDTH, -1), (WIDTH, 3, PATCH, PATCH)),
        Name("patch_embedding.bias", ("patch_embed.proj.bias",)),
        *blocks(DEPTH, lambda number: f"blocks.{number}", parts),
        *plain("pooled_norm", "fc_norm"),
    ]
    if class_token:
        table.append(Name("class_token", ("cls_token",), (WIDTH,), (1, 1, WIDTH)))
    ours.to(dtype).load_state_dict(to_ours(table, theirs.state_dict()))
    expected, found = theirs(pixels.to(dtype) / 127.5 - 1), ours.pooled({"pixels": pixels})
    same({"pooled": found}, {"pooled": expected})
    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    (found * weight).sum().backward()
    same(to_theirs(table, gradients(ours)), gradients(theirs))

"""trainer.checkpoint_blocks and trainer.compile reach every encoder, or say that they do not."""

import logging

import pytest
import torch
from torch import nn
from torch.utils import checkpoint

from data.errors import InputError
from modalities.encoder import Encoder
from modalities.image.plugin import ImagePlugin
from modalities.text.encoder import TextEncoder
from pretrain.trunks import can_recompute, set_trunks

D = 32
PICTURES = {"pixels": torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)}


def options(checkpoint_blocks=None, compile=False):
    return {"checkpoint_blocks": checkpoint_blocks, "compile": compile}


def from_timm():
    timm = pytest.importorskip("timm")
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": D, "depth": 2, "num_heads": 2, "num_classes": 0}
    module = timm.create_model("vit_tiny_patch16_224", **sizes)
    return ImagePlugin(module, 16, D, "first", mean=[0.5] * 3, spread=[0.5] * 3, method="forward_features")


def from_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=D, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=16, patch_size=4
    )
    return ImagePlugin(transformers.ViTModel(config, add_pooling_layer=False), 16, D, "first", pixels="pixel_values")


def unknown():
    return ImagePlugin(nn.Conv2d(3, D, 4, 4), 16, D)


@pytest.mark.parametrize("made", [from_timm, from_transformers])
def test_plug_ins_compute_again_in_their_own_way(made, monkeypatch):
    torch.manual_seed(0)
    encoders = nn.ModuleDict({"image": made()})

    def gradients():
        encoders.zero_grad()
        encoders["image"](PICTURES).tokens.square().sum().backward()
        return [p.grad.clone() for p in encoders.parameters() if p.grad is not None]

    calls = []
    original = checkpoint._checkpoint_without_reentrant_generator

    def counted(*given, **named):
        calls.append(given)
        return original(*given, **named)

    monkeypatch.setattr(checkpoint, "_checkpoint_without_reentrant_generator", counted)
    plain = gradients()
    assert not calls
    assert can_recompute(encoders)
    set_trunks(encoders, options("all"))
    torch.testing.assert_close(gradients(), plain)
    assert len(calls) == 2  # layers
    set_trunks(encoders, options("none"))
    gradients()
    assert len(calls) == 2
    with pytest.raises(InputError, match=r"checkpoint_blocks=2: module \w+ knows all and none"):
        set_trunks(encoders, options(2))


def test_what_cannot_be_done_is_said(caplog, vocab_size):
    encoders = nn.ModuleDict({"text": TextEncoder(vocab_size, 16, 1, 4), "image": unknown()})
    assert not can_recompute(encoders)
    with pytest.raises(InputError, match="checkpoint_blocks=all: module Conv2d has no way to compute its layers again"):
        set_trunks(encoders, options("all"))
    set_trunks(encoders, options("none"))
    with caplog.at_level(logging.WARNING, "pretrain"):
        set_trunks(encoders, options(compile=True))
    assert "trainer.compile=true leaves encoder 'image' as it is" in caplog.text
    assert "'text'" not in caplog.text

    class Own(Encoder):
        pass

    with pytest.raises(InputError, match=r"checkpoint_blocks=all: encoder 'own' \(Own\) has no blocks of ours"):
        set_trunks(nn.ModuleDict({"own": Own(8, "mean")}), options("all"))


def test_a_module_that_only_asserts_that_it_is_not_asked():
    """As eighteen of timm's do."""

    class Asserting(nn.Conv2d):
        def set_grad_checkpointing(self, enable=True):
            assert not enable, "gradient checkpointing not supported"

    encoders = nn.ModuleDict({"image": ImagePlugin(Asserting(3, D, 4, 4), 16, D)})
    assert not can_recompute(encoders)
    with pytest.raises(
        InputError, match="module Asserting cannot compute its layers again: gradient checkpointing not"
    ):
        set_trunks(encoders, options("all"))

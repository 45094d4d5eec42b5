import math

import numpy as np
import pytest
import torch
from torch import nn

from data.errors import InputError
from modalities.audio.encoder import AudioEncoder
from modalities.audio.prepare import AudioPrepare
from modalities.text.encoder import TextEncoder
from pretrain.optim.adamw import adamw
from pretrain.optim.groups import groups, layer_factors, locked, trained


class Two(nn.Module):
    """Two encoders of three layers and a head, named as a model's."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoders = nn.ModuleDict({name: TextEncoder(20, 8, 3, 2) for name in ("text", "image")})
        for encoder in self.encoders.values():
            encoder.add_projection(4)
        self.objectives = nn.ModuleDict({"clip": nn.Linear(4, 4)})


@pytest.fixture
def model():
    return Two()


def rates(optimizer, model):
    """Parameter name -> (learning rate, weight decay)."""
    names = {id(p): n for n, p in model.named_parameters()}
    return {
        names[id(p)]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]
    }


def test_matrices_decay_and_vectors_do_not(model):
    found = rates(adamw(model.named_parameters(), 0.1, weight_decay=0.5), model)
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, p in model.named_parameters():
        assert found[name] == (0.1, 0.5 if p.ndim >= 2 else 0.0)
    found = rates(adamw(model.named_parameters(), 0.1, weight_decay=0.5, decay_embeddings=False), model)
    changed = {n for n, p in model.named_parameters() if found[n][1] != (0.5 if p.ndim >= 2 else 0.0)}
    assert changed == {f"encoders.{e}.token_embedding.weight" for e in ("text", "image")}


def test_rates_fall_from_layer_to_layer(model):
    found = rates(adamw(model.named_parameters(), 1.0, layer_decay=0.5), model)
    for name, (lr, _) in found.items():
        if "token_embedding" in name:
            expected = 0.5**4
        elif ".blocks." in name:
            expected = 0.5 ** (3 - int(name.split(".blocks.")[1].split(".")[0]))
        else:
            expected = 1.0  # the last norm, projections, heads
        assert lr == pytest.approx(expected), name


def test_layers_of_other_libraries_count_too():
    names = ["embeddings.word_embeddings.weight", "encoder.layer.0.w", "encoder.layer.1.w", "pooler.w"]
    pairs = [(f"encoders.x.{n}", nn.Parameter(torch.zeros(2, 2))) for n in names]
    assert list(layer_factors(pairs, 0.5).values()) == [0.125, 0.25, 0.5, 1.0]
    # A small numbered stack below the large one is not the one that counts.
    pairs.insert(1, ("encoders.x.frontend.layers.0.w", nn.Parameter(torch.zeros(1))))
    assert layer_factors(pairs, 0.5)["encoders.x.frontend.layers.0.w"] == 0.125


def test_rates_of_single_encoders_and_the_longest_place_counts(model):
    factors = {"text": 0.1, "text.projections": 2, "objectives.clip": 0.5}
    found = rates(adamw(model.named_parameters(), 1.0, lr_factors=factors), model)
    for name, (lr, _) in found.items():
        expected = 2 if "text.projections" in name else 0.1 if "s.text" in name else 0.5 if "clip" in name else 1
        assert lr == pytest.approx(expected), name


def test_zero_freezes(model):
    optimizer = adamw(model.named_parameters(), 1.0, lr_factors={"image": 0, "image.projections": 1})
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {n for n, _ in model.named_parameters() if "s.image" in n and "projections" not in n}
    assert rates(optimizer, model).keys() == dict(model.named_parameters()).keys() - frozen
    assert locked(model) == [model.encoders["image"]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr_factors": {"imag": 0}}, r"lr_factors names 'imag', which has no parameter; did you mean 'image'\?"),
        ({"lr_factors": 0}, "lr_factors=0 is no mapping"),
        ({"lr_factors": {"image": -1}}, "lr_factors.image=-1 is no number of 0 or more"),
        ({"lr_factors": {"text": 0, "image": 0, "objectives.clip": 0}}, "freezes every parameter"),
        ({"layer_decay": 0}, "layer_decay=0 is not above 0"),
    ],
)
def test_wrong_settings_are_named(model, settings, message):
    with pytest.raises(InputError, match=message):
        trained(model.named_parameters(), **settings)


@pytest.mark.parametrize("settings", [{"lr": -1e-3}, {"lr": "fast"}, {"weight_decay": -5}, {"weight_decay": math.nan}])
def test_rates_and_decay_are_numbers(model, settings):
    """Torch looks at the default alone, never at a group's: a negative decay would make weights grow."""
    [(name, value)] = settings.items()
    with pytest.raises(InputError, match=rf"{name}={value!r} is no number of 0 or more"):
        groups(trained(model.named_parameters()), **{"lr": 1e-3, "weight_decay": 0.1, **settings})


def test_encoders_means_all_of_them_but_places_that_are_named(model):
    parts = trained(model.named_parameters(), lr_factors={"encoders": 0, "image.projections": 0.5})
    factors = {part.name: part.factor for part in parts}
    assert {name.split(".")[0] for name in factors} == {"encoders", "objectives"}
    assert {factor for name, factor in factors.items() if name.startswith("encoders.image.projections.")} == {0.5}
    assert not [name for name in factors if name.startswith("encoders.") and ".image.projections." not in name]


@pytest.mark.parametrize("decay_embeddings", [True, False])
def test_convolutional_positions_decay_but_their_scale_does_not(decay_embeddings):
    encoder = AudioEncoder(8, 16, 1, 2, positions="convolutional", position_kernel=4, position_groups=2)
    parameters = [(f"encoders.audio.{name}", p) for name, p in encoder.named_parameters()]
    decays = {part.name: part.decays for part in trained(parameters, decay_embeddings=decay_embeddings)}
    assert decays["encoders.audio.positions.direction"]
    assert not decays["encoders.audio.positions.gain"]
    assert not decays["encoders.audio.positions.bias"]


@pytest.mark.parametrize("name", ["image", "embedder", "text_embed"])
def test_what_is_an_embedding_is_not_decided_by_the_name_of_its_encoder_or_task(name):
    encoder = TextEncoder(20, 8, 3, 2)
    pairs = [(f"encoders.{name}.{place}", p) for place, p in encoder.named_parameters()]
    pairs.append((f"objectives.{name}.head.weight", nn.Parameter(torch.zeros(4, 8))))
    parts = {part.name.split(".", 2)[2]: part for part in trained(pairs, decay_embeddings=False)}
    matrices = {place for place, p in encoder.named_parameters() if p.ndim == 2 and "embedding" not in place}
    assert {place for place, part in parts.items() if part.decays} == matrices | {"head.weight"}
    assert {place for place, part in parts.items() if part.hidden} == {m for m in matrices if ".blocks." in m}


@pytest.mark.parametrize(
    ("place", "embeds"),
    [
        ("patch_embedding.weight", False),  # ours
        ("module.patch_embed.proj.weight", False),  # timm
        ("module.embeddings.patch_embeddings.projection.weight", False),  # transformers, ViT
        ("module.vision_model.embeddings.patch_embedding.weight", False),  # transformers, CLIP
        ("module.embeddings.position_embeddings", True),
        ("module.patch_embeddings.0.position_embeddings", True),  # transformers, PVT
        ("module.pos_embed", True),
        ("positions.weight", True),
        ("module.wte.weight", True),
    ],
)
def test_patches_are_embedded_by_a_matrix_like_others(place, embeds):
    [part] = trained([(f"encoders.embedder.{place}", nn.Parameter(torch.zeros(4, 8)))], decay_embeddings=False)
    assert part.decays != embeds


def test_layer_decay_without_layers_is_no_silence(caplog):
    plain = [("encoders.image.module.weight", nn.Parameter(torch.zeros(2, 2)))]
    text = [(f"encoders.text.{name}", p) for name, p in TextEncoder(20, 8, 3, 2).named_parameters()]
    with pytest.raises(InputError, match=r"layer_decay=0\.5: encoder 'image' has no numbered layers"):
        trained(plain, layer_decay=0.5)
    with caplog.at_level("WARNING", "pretrain"):
        trained(text + plain, layer_decay=0.5)
    assert "layer_decay=0.5 leaves encoder 'image' as it is: it has no numbered layers" in caplog.text


def test_a_frozen_tower_has_no_dropout_where_its_projections_are_trained():
    """The audio encoder drops features itself, outside of its trunk."""
    audio = AudioEncoder(channels=8, width=16, depth=1, heads=2, dropout=0.5, feature_dropout=0.5)
    audio.add_projection(4)
    model = nn.ModuleDict({"encoders": nn.ModuleDict({"audio": audio})})
    trained(model.named_parameters(), lr_factors={"audio": 0, "audio.projections": 1})
    for part in locked(model):
        part.eval()
    inputs = AudioPrepare().collate([{"wave": np.ones(4000, dtype=np.float32)}])
    torch.testing.assert_close(audio.embed(inputs, 4), audio.embed(inputs, 4), rtol=0, atol=0)
    assert audio.embed(inputs, 4).requires_grad

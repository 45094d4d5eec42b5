"""CLIP: both towers, loss and gradients equal those of ``transformers``, the same random weights."""

import math

import pytest
import torch

from data.errors import InputError
from modalities.contrastive import Contrastive
from modalities.hf_names import to_ours, to_theirs
from modalities.image.encoder import ImageEncoder
from modalities.image.hf_names import clip_vision
from modalities.layout import Layout
from modalities.objective import Step
from modalities.text.clip_names import clip_text
from modalities.text.encoder import TextEncoder
from tests.modalities.parity.numbers import gradients, randomise, same

transformers = pytest.importorskip("transformers")

DEPTH, WIDTH, SIDE, PATCH, JOINT, VOCABULARY, END = 3, 32, 24, 8, 20, 90, 89
LENGTHS = [5, 9, 3, 12]


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def dtype(request):
    return request.param


@pytest.fixture
def theirs(dtype):
    towers = {
        "hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": 4, "intermediate_size": 128,
        "hidden_act": "quick_gelu",
    }  # fmt: skip
    config = transformers.CLIPConfig(
        text_config={**towers, "vocab_size": VOCABULARY, "max_position_embeddings": 16, "eos_token_id": END},
        vision_config={**towers, "image_size": SIDE, "patch_size": PATCH},
        projection_dim=JOINT,
    )
    model = transformers.CLIPModel(config)
    scale = model.logit_scale.item()
    randomise(model)
    torch.nn.init.constant_(model.logit_scale, scale)
    return model.to(dtype).train()


@pytest.fixture
def ours(theirs, dtype):
    image = ImageEncoder(
        SIDE, PATCH, WIDTH, DEPTH, 4, pool="first", patch_bias=False, pooled_norm=True,
        trunk={"activation": "quick_gelu", "input_norm": True, "initialisation": "clip"},
    )  # fmt: skip
    text = TextEncoder(
        VOCABULARY, WIDTH, DEPTH, 4, causal=True, positions="learned", max_tokens=16, pool="last",
        trunk={"activation": "quick_gelu", "initialisation": "clip"},
    )  # fmt: skip
    objective = Contrastive(JOINT)
    encoders = {"a": image, "b": text}
    objective.connect(encoders)
    for encoder, table in zip((image, text), tables(), strict=True):
        encoder.to(dtype).load_state_dict(to_ours(table, theirs.state_dict()))
    objective.to(dtype).load_state_dict({"logit_scale": theirs.logit_scale})
    return encoders, objective


def tables():
    return clip_vision(DEPTH, WIDTH, PATCH, JOINT), clip_text(DEPTH, JOINT)


@pytest.fixture
def batch():
    draw = torch.manual_seed(1)
    pixels = torch.randint(0, 256, (4, 3, SIDE, SIDE), dtype=torch.uint8, generator=draw)
    tokens = [torch.cat((torch.randint(0, END, (n - 1,), generator=draw), torch.tensor([END]))) for n in LENGTHS]
    return {
        "size": 4,
        "a": {"pixels": pixels, "size": 4},
        "b": {"tokens": torch.cat(tokens), "layout": Layout(LENGTHS), "size": 4},
    }


def padded(batch, image):
    """Their inputs: pictures with CLIP's mean and spread taken out, texts padded behind the end token."""
    tokens = batch["b"]["tokens"].split(LENGTHS)
    ids = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
    pixels = (batch["a"]["pixels"].to(image.mean.dtype) - image.mean) / image.spread
    return {"input_ids": ids, "pixel_values": pixels}


def test_towers_equal_transformers(theirs, ours, batch):
    encoders, _ = ours
    inputs = padded(batch, encoders["a"])
    expected = theirs.vision_model(inputs["pixel_values"])
    same({"tokens": encoders["a"](batch["a"]).tokens}, {"tokens": expected.last_hidden_state.flatten(0, 1)})
    same({"pooled": encoders["a"].pooled(batch["a"])}, {"pooled": expected.pooler_output})
    expected = theirs.text_model(inputs["input_ids"])
    rows = torch.cat([row[:n] for row, n in zip(expected.last_hidden_state, LENGTHS, strict=True)])
    same({"tokens": encoders["b"](batch["b"]).tokens}, {"tokens": rows})
    same({"pooled": encoders["b"].pooled(batch["b"])}, {"pooled": expected.pooler_output})


@pytest.mark.parametrize("parts", [1, 4])
def test_loss_and_gradients_equal_transformers(theirs, ours, batch, parts):
    encoders, objective = ours
    expected = theirs(**padded(batch, encoders["a"]), return_loss=True)
    expected.loss.backward()
    batches = [batch] if parts == 1 else [one(batch, i) for i in range(4)]
    metrics = objective.step(encoders, batches, Step(), 1.0)
    assert metrics["loss"].item() == pytest.approx(expected.loss.item(), rel=1e-5)
    found = {"logit_scale": objective.logit_scale.grad}
    for encoder, table in zip(encoders.values(), tables(), strict=True):
        found |= to_theirs(table, gradients(encoder))
    # The objective compares in float32, whatever the towers are in; tensor by tensor that leaves four digits.
    same(found, gradients(theirs), 1e-5 if objective.logit_scale.dtype == torch.float32 else 1e-4)


def one(batch, i):
    tokens = batch["b"]["tokens"].split(LENGTHS)[i]
    return {
        "size": 1,
        "a": {"pixels": batch["a"]["pixels"][i : i + 1]},
        "b": {"tokens": tokens, "layout": Layout([len(tokens)])},
    }


def test_weights_come_back(theirs, ours):
    encoders, _ = ours
    state = {}
    for encoder, table in zip(encoders.values(), tables(), strict=True):
        state |= to_theirs(table, encoder.state_dict())
    expected = {name: value for name, value in theirs.state_dict().items() if name != "logit_scale"}
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_begins_as_published():
    torch.manual_seed(0)
    image = ImageEncoder(32, 4, 256, 1, 4, pool="first", patch_bias=False, trunk={"initialisation": "clip"})
    assert image.positions.std().item() == pytest.approx(1 / 16, rel=0.03)
    assert image.trunk.blocks[0].attention_in.weight.std().item() == pytest.approx(1 / 16, rel=0.03)
    assert math.isclose(image.class_token.std().item(), 1 / 16, rel_tol=0.2)


def test_missing_weights_are_named(theirs):
    state = {name: value for name, value in theirs.state_dict().items() if "k_proj" not in name}
    with pytest.raises(InputError, match=r"lack 'text_model.encoder.layers.0.self_attn.k_proj.weight'"):
        to_ours(clip_text(DEPTH), state)

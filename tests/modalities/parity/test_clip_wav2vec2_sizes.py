"""The configs of published sizes: parameter counts, and every name and shape of the published model. Nothing is stored:
tensors on the meta device have shapes alone."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from modalities.audio.hf_names import wav2vec2, wav2vec2_pretraining
from modalities.audio.wav2vec2 import Wav2Vec2
from modalities.hf_names import to_theirs
from modalities.image.hf_names import clip_vision
from modalities.text.clip_names import clip_text
from pretrain.build import make

transformers = pytest.importorskip("transformers")

FOLDER = Path(__file__).parents[3] / "conf" / "encoder"
COUNTS = {
    "clip_vit_b_32": 87_456_000,
    "clip_vit_b_16": 85_799_424,
    "clip_vit_l_14": 303_179_776,
    "clip_text_b": 63_165_952,
    "clip_text_l": 123_060_480,
    "wav2vec2_base": 94_371_712,
    "wav2vec2_large": 315_438_720,
}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}


def encoder(name):
    config = OmegaConf.create({"encoder": OmegaConf.load(FOLDER / f"{name}.yaml"), "data": {"vocab_size": 49408}})
    with torch.device("meta"):
        return make(OmegaConf.to_container(config, resolve=True)["encoder"], name)


def shapes(state):
    return {name: tuple(value.shape) for name, value in state.items()}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters(name):
    assert sum(parameter.numel() for parameter in encoder(name).parameters()) == COUNTS[name]
    comment = (FOLDER / f"{name}.yaml").read_text().split("_target_")[0].replace("\n#", "")
    assert f"{COUNTS[name]:_}".replace("_", " ") in comment


@pytest.mark.parametrize(("image", "text", "joint"), [("b_32", "b", 512), ("b_16", "b", 512), ("l_14", "l", 768)])
def test_clip(image, text, joint):
    patch = int(image[-2:])
    large = image[0] == "l"
    config = transformers.CLIPConfig(
        vision_config={"patch_size": patch, **(LARGE if large else {})},
        text_config={"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072} if large else {},
        projection_dim=joint,
    )
    with torch.device("meta"):
        theirs = shapes(transformers.CLIPModel(config).state_dict())
    eye, reader = encoder(f"clip_vit_{image}"), encoder(f"clip_text_{text}")
    for tower in (eye, reader):
        tower.add_projection(joint)
    found = to_theirs(clip_vision(len(eye.trunk.blocks), eye.width, patch, joint), eye.state_dict())
    found |= to_theirs(clip_text(len(reader.trunk.blocks), joint), reader.state_dict())
    assert shapes(found) | {"logit_scale": ()} == theirs


@pytest.mark.parametrize("size", ["base", "large"])
def test_wav2vec2(size):
    ours, large = encoder(f"wav2vec2_{size}"), size == "large"
    latent = 768 if large else 256
    more = {**LARGE, "feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True} if large else {}
    config = transformers.Wav2Vec2Config(codevector_dim=latent, proj_codevector_dim=latent, **more)
    with torch.device("meta"):
        theirs = shapes(transformers.Wav2Vec2ForPreTraining(config).state_dict())
        objective = Wav2Vec2(512, ours.width, latent_dim=latent, final_dim=latent)
    names = wav2vec2(len(ours.trunk.blocks), 7, "layer" if large else "group", large)
    mine, head = wav2vec2_pretraining(names, 2, 320, latent)
    assert shapes(to_theirs(mine, ours.state_dict()) | to_theirs(head, objective.state_dict())) == theirs

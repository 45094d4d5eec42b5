"""Recipes of published models: complete configs, parameter counts, heads that begin as published."""

import pytest
import torch

from modalities.text.encoder import TextEncoder
from modalities.text.masked_lm import MaskedLM
from pretrain import config
from pretrain.model import build_model
from pretrain.optim.groups import trained

# With all heads, as transformers counts them (CLIPModel, Wav2Vec2ForPreTraining and so on; the vocabularies their own).
COUNTS = {
    "bert_base": 109_514_298,
    "bert_large": 335_174_458,
    "modernbert_base": 149_655_232,
    "gpt2_small": 124_439_808,
    "gpt2_medium": 354_823_168,
    "clip_vit_b_32": 151_277_313,
    "clip_vit_b_16": 149_620_737,
    "clip_vit_l_14": 427_616_513,
    "wav2vec2_base": 95_044_608,
    "wav2vec2_large": 317_390_592,
}


def load(name, tokenizer_path, *more):
    sizes = ["data.vocab_size=49408"] if name.startswith("clip") else []
    return config.load([f"experiment={name}", "data.folder=shards", f"data.tokenizer={tokenizer_path}", *sizes, *more])


@pytest.mark.parametrize("name", COUNTS)
def test_a_line_is_the_published_model(name, tokenizer_path):
    found = load(name, tokenizer_path)
    assert found["name"] == name
    with torch.device("meta"):
        model = build_model(found)
    assert sum(p.numel() for p in model.parameters()) == COUNTS[name]
    assert trained(model.named_parameters())
    assert found["schedule"]["warmup_steps"] >= 640


def test_heads_differ_as_published(tokenizer_path):
    bert = load("bert_base", tokenizer_path)["tasks"]["mlm"]
    modern = load("modernbert_base", tokenizer_path)["tasks"]["mlm"]
    assert bert["objective"]["norm_eps"] == 1e-12
    assert bert["prepare"]["mlm_probability"] == 0.15
    assert modern["objective"]["head"] == "modernbert"
    assert modern["objective"]["depth"] == 22
    assert modern["prepare"]["mlm_probability"] == 0.3
    assert load("gpt2_small", tokenizer_path)["tasks"]["clm"]["objective"]["bias"] is False


@pytest.mark.parametrize("name", ["gpt2_small", "gpt2_medium"])
def test_each_position_of_gpt2_is_trained(name, tokenizer_path):
    with torch.device("meta"):
        model = build_model(load(name, tokenizer_path))
    assert model.tasks["clm"].prepare.longest == model.encoders["text"].longest == 1024


def test_the_first_phase_of_modernbert_has_one_rotary_base(tokenizer_path):
    """The encoder's own config is that of the published weights, which went through the phase of long texts."""
    trunk = load("modernbert_base", tokenizer_path)["encoders"]["text"]["trunk"]
    assert trunk["rotary_base"] == trunk["local_rotary_base"] == 10_000
    published = load("bert_base", tokenizer_path, "encoder@encoders.text=modernbert_base")["encoders"]["text"]["trunk"]
    assert (published["rotary_base"], published["local_rotary_base"]) == (160_000, 10_000)


def test_the_head_begins_by_its_recipe():
    plain = MaskedLM(64, 10)
    assert plain.dense.weight.std().item() == pytest.approx(0.02, rel=0.1)
    modern = MaskedLM(64, 10, head="modernbert", initialisation="modernbert", depth=8)
    cut_off_at_two = 0.88  # of the deviation is left
    assert modern.dense.weight.std().item() == pytest.approx(cut_off_at_two * 0.02 / 4, rel=0.1)
    assert modern.dense.weight.abs().max().item() <= 2 * 0.02 / 4


@pytest.mark.parametrize("name", ["wav2vec2_base", "wav2vec2_large"])
def test_projections_of_wav2vec_begin_as_torch_makes_them(name, tokenizer_path):
    """As fairseq and transformers do: uniform within 1/sqrt(inputs), the biases too."""
    small = [f"encoders.audio.{key}" for key in ("width=64", "depth=1", "heads=2")]
    torch.manual_seed(0)
    model = build_model(load(name, tokenizer_path, *small))
    encoder, objective = model.encoders["audio"], model.objectives["wav2vec"]
    for layer in (encoder.feature_projection, objective.project_hid, objective.project_q):
        limit = layer.in_features**-0.5
        assert layer.weight.abs().max().item() == pytest.approx(limit, rel=0.01)
        assert layer.bias.abs().max().item() == pytest.approx(limit, rel=0.1)
    assert encoder.trunk.blocks[0].mlp_in.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_positions_of_clips_texts_begin_half_as_wide():
    text = TextEncoder(500, 64, 1, 4, positions="learned", max_tokens=77, trunk={"initialisation": "clip"})
    assert text.token_embedding.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert text.position_embedding.weight.std().item() == pytest.approx(0.01, rel=0.05)

"""Recipes of published models: complete configs, parameter counts, heads that begin as published."""

import pytest
import torch

from modalities.text.masked_lm import MaskedLM
from pretrain import config
from pretrain.model import build_model
from pretrain.optim.groups import trained

# With all heads, as transformers counts them (CLIPModel, Wav2Vec2ForPreTraining and so on; the vocabularies their own).
COUNTS = {
    "bert_base": 109_514_298,
    "modernbert_base": 149_655_232,
    "gpt2_small": 124_439_808,
    "clip_vit_b_32": 151_277_313,
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


def test_the_head_begins_by_its_recipe():
    plain = MaskedLM(64, 10)
    assert plain.dense.weight.std().item() == pytest.approx(0.02, rel=0.1)
    modern = MaskedLM(64, 10, head="modernbert", initialisation="modernbert", depth=8)
    cut_off_at_two = 0.88  # of the deviation is left
    assert modern.dense.weight.std().item() == pytest.approx(cut_off_at_two * 0.02 / 4, rel=0.1)
    assert modern.dense.weight.abs().max().item() <= 2 * 0.02 / 4

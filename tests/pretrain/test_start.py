"""What a run that begins with another one's weights takes of them."""

import logging

import pytest
import torch

from data.errors import InputError
from pretrain.model import build_model, tokenizers
from pretrain.start import initialise_from
from tests.pretrain.export.families import composed, published, sizes

HEAD = "objectives.label.head.weight"


@pytest.fixture
def overrides():
    """Those of a run that tells ``labels`` apart."""

    def make(labels, *more):
        task = ["+task@tasks.label=text_classification", f"tasks.label.prepare.labels=[{','.join(labels)}]"]
        encoder = ["+encoder@encoders.text=bert_base", *sizes("text", vocab_size=320, max_tokens=140)]
        return ["experiment=adapt", *encoder, *task, *more]

    return make


@pytest.fixture
def begun(tmp_path, tokenizer_path, overrides, caplog):
    """Weights of a run with the labels a, b and c -> (those, what a run with other overrides begins with, its log)."""

    def make(labels, *more):
        there = published(tmp_path / "there", tokenizer_path, overrides("abc"))
        config = composed(tmp_path / "here", tokenizer_path, overrides(labels, *more))
        model = build_model(config)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with caplog.at_level(logging.INFO, logger="pretrain"):
            initialise_from({**config, "init_from": str(tmp_path / "there")}, model, tokenizers(model))
        return there.state_dict(), before, model.state_dict(), caplog.text

    return make


def test_a_head_of_the_same_labels_is_taken(begun):
    there, _, here, said = begun("abc")
    assert all(torch.equal(here[name], there[name]) for name in there)
    assert "begin anew" not in said
    assert "begins anew" not in said


@pytest.mark.parametrize("labels", ["ab", "abd", "cba"])
def test_a_head_of_other_labels_begins_anew(begun, labels):
    there, before, here, said = begun(labels)
    assert all(torch.equal(here[name], there[name]) for name in there if name.startswith("encoders."))
    assert all(torch.equal(here[name], before[name]) for name in before if name.startswith("objectives."))
    assert "objectives.label begins anew: it is for other labels than those of '" in said
    assert "2 tensors begin anew (objectives.label.head.bias, ...)" in said


def test_an_objective_of_other_sizes_begins_anew(tmp_path, tokenizer_path, caplog):
    views = ["experiment=mlm_tiny", "encoders.text.vocab_size=320", *sizes("text"), "+task@tasks.views=views_text"]
    there = published(tmp_path / "there", tokenizer_path, views).state_dict()
    config = composed(tmp_path / "here", tokenizer_path, [*views, "tasks.views.objective.embed_dim=64"])
    model = build_model(config)
    with caplog.at_level(logging.INFO, logger="pretrain"):
        initialise_from({**config, "init_from": str(tmp_path / "there")}, model, tokenizers(model))
    assert "objectives.views begins anew: 'objectives.views.head.2.bias' is (128,) there and (64,) in" in caplog.text
    here = model.state_dict()
    assert torch.equal(here["objectives.mlm.dense.weight"], there["objectives.mlm.dense.weight"])
    assert not torch.equal(here["objectives.views.head.0.weight"], there["objectives.views.head.0.weight"])


def test_an_encoder_of_other_sizes_is_refused(begun):
    with pytest.raises(InputError, match=r"'encoders.text.*' is \(.*\) there and \(.*\) in this model$"):
        begun("abc", "encoders.text.width=64")

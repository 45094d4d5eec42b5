"""BERT: outputs, loss and gradients equal those of ``transformers``, the same random weights, texts without padding."""

import pytest
import torch

from data.errors import InputError
from modalities.text.hf_names import from_hf, to_hf
from modalities.text.masked_lm import MaskedLM
from tests.modalities.parity import text
from tests.modalities.parity.numbers import randomise, same

transformers = pytest.importorskip("transformers")


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def theirs(request):
    config = transformers.BertConfig(
        vocab_size=text.VOCABULARY, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128,
        max_position_embeddings=40, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    config._attn_implementation = "eager"
    model = transformers.BertForMaskedLM(config).to(request.param).train()
    randomise(model)
    return model


@pytest.fixture(params=[2, 0], ids=["types", "folded"])
def ours(request, theirs):
    encoder = text.small("bert_base", depth=3, max_tokens=40, token_types=request.param)
    objective = MaskedLM(32, text.VOCABULARY, norm_eps=1e-12)
    text.load(encoder, objective, from_hf("bert", theirs.state_dict(), fold_types=request.param == 0))
    return encoder, objective


def test_outputs_loss_and_gradients_equal_transformers(theirs, ours):
    encoder, objective = ours
    given = text.batch(masked=True)
    hidden, logits, expected = text.one_by_one(theirs, given["text"])
    found = encoder(given["text"]).tokens
    same({"hidden": found}, {"hidden": hidden})
    mine = objective.transform(found) @ encoder.token_embedding.weight.T + objective.bias
    same({"logits": mine}, {"logits": logits})
    loss, slopes = text.trained(encoder, objective, given)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    right = text.their_gradients("bert", theirs, expected)
    if encoder.type_embedding is None:
        del right["encoder.type_embedding.weight"]
    else:
        assert torch.count_nonzero(slopes["encoder.type_embedding.weight"][1]) == 0
    same(slopes, right)


def test_weights_come_back(theirs, ours):
    encoder, objective = ours
    state, expected = to_hf("bert", text.state_of(encoder, objective)), theirs.state_dict()
    assert state.keys() == expected.keys()
    if encoder.type_embedding is not None:
        assert all(torch.equal(state[name], value) for name, value in expected.items())
    model = type(theirs)(theirs.config).to(theirs.dtype)
    model.load_state_dict(state)
    given = text.batch(masked=True)
    same({"logits": text.one_by_one(model, given["text"])[1]}, {"logits": text.one_by_one(theirs, given["text"])[1]})


def test_token_types_are_looked_up(theirs):
    encoder = text.small("bert_base", depth=3, max_tokens=40)
    objective = MaskedLM(32, text.VOCABULARY, norm_eps=1e-12)
    text.load(encoder, objective, from_hf("bert", theirs.state_dict()))
    given = text.batch(masked=True)["text"]
    kinds = torch.arange(len(given["tokens"])) % 2
    ids, length = given["tokens"][:7], text.LENGTHS[0]
    expected = theirs.bert(input_ids=ids[None], token_type_ids=kinds[None, :length]).last_hidden_state[0]
    found = encoder(given | {"types": kinds}).tokens[:length]
    same({"hidden": found}, {"hidden": expected})


@pytest.mark.parametrize(
    ("name", "sizes", "parameters"),
    [
        ("bert_base", {}, "109,514,298"),
        (
            "bert_large",
            {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
            "335,174,458",
        ),
    ],
)
def test_published_sizes(name, sizes, parameters):
    with torch.device("meta"):
        model = transformers.BertForMaskedLM(transformers.BertConfig(**sizes))
    found, state = text.count(name, MaskedLM)
    assert found == sum(p.numel() for p in model.parameters())
    assert f"{found:,}" == parameters
    assert f"{parameters} parameters" in (text.FOLDER / f"{name}.yaml").read_text()
    shapes = {key: value.shape for key, value in to_hf("bert", state).items()}
    assert shapes == {key: value.shape for key, value in model.state_dict().items()}


def test_strange_weights_are_named(theirs):
    state = theirs.state_dict()
    with pytest.raises(InputError, match=r"no place for bert\.adapter\.weight"):
        from_hf("bert", state | {"bert.adapter.weight": torch.zeros(1)})
    with pytest.raises(InputError, match=r"lack 'bert\.encoder\.layer\.1\.attention\.self\.key\.weight'"):
        from_hf("bert", {k: v for k, v in state.items() if k != "bert.encoder.layer.1.attention.self.key.weight"})
    with pytest.raises(InputError, match="family 'brt' is unknown; did you mean 'bert'"):
        from_hf("brt", state)
    with pytest.raises(InputError, match=r"GPT2LMHeadModel .*no place for objective\.bias"):
        to_hf("gpt2", {"objective.bias": torch.zeros(1)})

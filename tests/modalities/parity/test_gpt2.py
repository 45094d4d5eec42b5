"""GPT-2: outputs, loss and gradients equal those of ``transformers``, the same random weights, documents packed."""

import pytest
import torch

from modalities.text.causal_lm import CausalLM
from modalities.text.hf_names import from_hf, to_hf
from tests.modalities.parity import text
from tests.modalities.parity.numbers import randomise, same

transformers = pytest.importorskip("transformers")


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def theirs(request):
    config = transformers.GPT2Config(
        vocab_size=text.VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_positions=40, embd_pdrop=0.0, resid_pdrop=0.0,
        attn_pdrop=0.0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    config._attn_implementation = "eager"
    model = transformers.GPT2LMHeadModel(config).to(request.param).train()
    randomise(model)
    return model


@pytest.fixture
def ours(theirs):
    encoder = text.small("gpt2_small", depth=3, max_tokens=40)
    objective = CausalLM(text.VOCABULARY, bias=False)
    text.load(encoder, objective, from_hf("gpt2", theirs.state_dict()))
    return encoder, objective


def test_outputs_loss_and_gradients_equal_transformers(theirs, ours):
    encoder, objective = ours
    given = text.batch(masked=False)
    hidden, logits, expected = text.one_by_one(theirs, given["text"])
    found = encoder(given["text"]).tokens
    same({"hidden": found}, {"hidden": hidden})
    same({"logits": found @ encoder.token_embedding.weight.T}, {"logits": logits})
    loss, slopes = text.trained(encoder, objective, given)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    same(slopes, text.their_gradients("gpt2", theirs, expected))


def test_weights_come_back(theirs, ours):
    state, expected = to_hf("gpt2", text.state_of(*ours)), theirs.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("name", "sizes"), [("gpt2_small", {}), ("gpt2_medium", {"n_embd": 1024, "n_layer": 24, "n_head": 16})]
)
def test_published_sizes(name, sizes):
    with torch.device("meta"):
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))
    found, state = text.count(name, lambda width, size: CausalLM(size, bias=False))
    assert found == sum(p.numel() for p in model.parameters())
    assert f"{found:,} parameters" in (text.FOLDER / f"{name}.yaml").read_text()
    shapes = {key: value.shape for key, value in to_hf("gpt2", state).items()}
    assert shapes == {key: value.shape for key, value in model.state_dict().items()}

"""ModernBERT: outputs, loss and gradients equal those of ``transformers``, the same random weights."""

import pytest
import torch

from modalities.text.hf_names import from_hf, to_hf
from modalities.text.masked_lm import MaskedLM
from tests.modalities.parity import text
from tests.modalities.parity.numbers import randomise, same

transformers = pytest.importorskip("transformers")
DEPTH, WINDOW = 5, 4  # blocks 0 and 3 see everything, and texts are longer than a window


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def theirs(request):
    config = transformers.ModernBertConfig(
        vocab_size=text.VOCABULARY, hidden_size=32, num_hidden_layers=DEPTH, num_attention_heads=4,
        intermediate_size=48, local_attention=2 * WINDOW, pad_token_id=None, bos_token_id=1, eos_token_id=2,
        cls_token_id=1, sep_token_id=2,
    )  # fmt: skip
    config._attn_implementation = "eager"
    model = transformers.ModernBertForMaskedLM(config).to(request.param).train()
    # ``to`` has made the frequencies of the rotation inexact or exact; ours are of float32, as are theirs when trained.
    randomise(model)
    return model


@pytest.fixture
def ours(theirs):
    encoder = text.small("modernbert_base", depth=DEPTH, trunk={"window": WINDOW})
    objective = MaskedLM(32, text.VOCABULARY, head="modernbert")
    text.load(encoder, objective, from_hf("modernbert", theirs.state_dict()))
    return encoder, objective


def test_outputs_loss_and_gradients_equal_transformers(theirs, ours):
    encoder, objective = ours
    given = text.batch(masked=True)
    hidden, logits, expected = text.one_by_one(theirs, given["text"])
    found = encoder(given["text"]).tokens
    # Their rotation is in float32 whatever the model is in.
    bar = 1e-5 if theirs.dtype == torch.float32 else 1e-6
    same({"hidden": found}, {"hidden": hidden}, bar)
    mine = objective.transform(found) @ encoder.token_embedding.weight.T + objective.bias
    same({"logits": mine}, {"logits": logits}, bar)
    loss, slopes = text.trained(encoder, objective, given)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    same(slopes, text.their_gradients("modernbert", theirs, expected), 1e-5)


def test_weights_come_back(theirs, ours):
    state, expected = to_hf("modernbert", text.state_of(*ours)), theirs.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_blocks_differ_in_reach_as_published(ours):
    trunk = ours[0].trunk
    assert [trunk.is_local(n) for n in range(DEPTH)] == [False, True, True, False, True]
    assert isinstance(trunk.blocks[0].attention_norm, torch.nn.Identity)
    assert not isinstance(trunk.blocks[1].attention_norm, torch.nn.Identity)
    assert not any(name.endswith("bias") for name, _ in ours[0].named_parameters())


def test_published_size():
    with torch.device("meta"):
        model = transformers.ModernBertForMaskedLM(transformers.ModernBertConfig())
    found, state = text.count("modernbert_base", lambda width, size: MaskedLM(width, size, head="modernbert"))
    assert found == sum(p.numel() for p in model.parameters())
    assert f"{found:,} parameters" in (text.FOLDER / "modernbert_base.yaml").read_text()
    shapes = {key: value.shape for key, value in to_hf("modernbert", state).items()}
    assert shapes == {key: value.shape for key, value in model.state_dict().items()}

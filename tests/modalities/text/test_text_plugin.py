import pytest
import torch
from torch import nn

from data.errors import InputError
from modalities.layout import Layout
from modalities.objective import Step
from modalities.text.masked_lm import MaskedLM
from modalities.text.plugin import TextPlugin

transformers = pytest.importorskip("transformers")

V, D = 60, 16
SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32}


def bert(**more):
    config = transformers.BertConfig(vocab_size=V, hidden_size=D, **SIZES, **more)
    return transformers.BertModel(config, add_pooling_layer=False)


class Recurrent(nn.Module):
    """Knows no mask; a token sees earlier ones only."""

    def __init__(self, both=False):
        super().__init__()
        self.words = nn.Embedding(V, D)
        self.gru = nn.GRU(D, D // 2 if both else D, batch_first=True, bidirectional=both)

    def forward(self, ids):
        return self.gru(self.words(ids))

    def sentence(self, ids):
        return self(ids)[0].mean(1)


OWN = {"tokens": None, "mask": None}


def texts(*lengths):
    generator = torch.Generator().manual_seed(0)
    return {
        "tokens": torch.randint(5, V, (sum(lengths),), generator=generator),
        "layout": Layout(lengths),
    }


@pytest.mark.parametrize("kind", ["bert", "gpt2", "recurrent"])
def test_texts_are_computed_as_one_by_one(kind):
    torch.manual_seed(0)
    if kind == "bert":
        encoder = TextPlugin(bert(), V, D)
    elif kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=V, n_positions=32, n_embd=D, n_layer=2, n_head=2, bos_token_id=2, eos_token_id=3
        )
        encoder = TextPlugin(transformers.GPT2Model(config), V, D, causal=True)
    else:
        encoder = TextPlugin(Recurrent(), V, D, causal=True, embedding="words", **OWN)
    encoder.eval()
    inputs = texts(7, 3, 7, 5)
    together = encoder(inputs)
    assert together.layout.lengths == [7, 3, 7, 5]
    for part, features in zip(inputs["tokens"].split([7, 3, 7, 5]), together.tokens.split([7, 3, 7, 5]), strict=True):
        alone = encoder({"tokens": part, "layout": Layout([len(part)])}).tokens
        torch.testing.assert_close(features, alone, rtol=1e-5, atol=1e-5)
    assert encoder.token_embedding.weight.shape == (V, D)


def test_the_head_of_masked_lm_equals_transformers_own():
    torch.manual_seed(0)
    theirs = transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=V, hidden_size=D, **SIZES)).eval()
    encoder = TextPlugin(theirs.bert, V, D).eval()
    objective = MaskedLM(D, V, norm_eps=1e-12).eval()
    assert objective.accept({"text": encoder}) is None
    head = theirs.cls.predictions
    objective.dense.load_state_dict(head.transform.dense.state_dict())
    objective.norm.load_state_dict(head.transform.LayerNorm.state_dict())
    with torch.no_grad():
        head.bias.normal_()
        objective.bias.copy_(head.bias)
    inputs = texts(8, 8)
    masked = torch.tensor([1, 4, 9])
    labels = torch.tensor([7, 8, 9])
    batch = {"text": inputs | {"masked": masked, "labels": labels}, "size": 2}
    totals = {"count": torch.tensor(3.0)}
    loss, _ = objective({"text": encoder}, batch, Step(), totals)
    wanted = torch.full((16,), -100)
    wanted[masked] = labels
    expected = theirs(input_ids=inputs["tokens"].view(2, 8), labels=wanted.view(2, 8)).loss
    torch.testing.assert_close(loss / 3, expected, rtol=1e-5, atol=1e-6)


def test_a_module_that_pools_gives_one_row_a_text():
    encoder = TextPlugin(Recurrent(), V, D, method="sentence", embedding="words", **OWN)
    found = encoder(texts(6, 4))
    assert found.tokens.shape == (2, D)
    assert found.layout.lengths == [1, 1]
    assert "no token_embedding" in MaskedLM(D, V).accept({"text": encoder})


class Blind(Recurrent):
    def forward(self, ids, attention_mask):
        return super().forward(ids)[0].flip(1).cumsum(1).flip(1)


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (bert, {"width": 8}, r"features of shape \(2, 6, 16\) for 2 sequences; expected \(2, positions, width=8\)"),
        (bert, {"vocab_size": V + 1}, f"embeds {V} tokens, vocab_size={V + 1}"),
        (bert, {"causal": True}, "causal=true, but in BertModel a token's features depend on later tokens"),
        (bert, {"tokens": "ids"}, "BertModel cannot be called as the adapter does: "),
        (bert, {"output": "logits"}, "output='logits' is no part of a BaseModelOutput.* \\(last_hidden_state\\)"),
        (bert, {"embedding": "embeddings.words"}, "embedding='embeddings.words' is no torch.nn.Embedding of BertModel"),
        (Blind, {"tokens": None}, "Blind sees padding: .* set mask=null"),
        (lambda: nn.Embedding(V, D), {"tokens": None}, "Embedding cannot be called as .*: .*attention_mask"),
        (lambda: nn.Linear(4, D), OWN, "Linear cannot be called as the adapter does: "),
    ],
)
def test_what_does_not_fit_is_said_at_once(make, arguments, message):
    with pytest.raises(InputError, match=message):
        TextPlugin(**{"module": make(), "vocab_size": V, "width": D, **arguments})


def test_too_long_a_text():
    encoder = TextPlugin(bert(), V, D, max_tokens=8)
    with pytest.raises(InputError, match="a text of 9 tokens exceeds max_tokens=8"):
        encoder(texts(9))

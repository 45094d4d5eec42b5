"""Which tokens a text has, from its one vector."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from data.sample import Sample
from data.seeds import generator
from modalities.objective import Step
from modalities.text.bag_of_words import BagOfWords, TextAndWords
from modalities.text.encoder import TextEncoder
from modalities.text.prepare import TextPrepare

TEXTS = ["the card has not come yet", "where is my card", "the the the", "nobody knows where it may be and why"]


@pytest.fixture
def prepare(tokenizer_path):
    return TextAndWords(tokenizer_path, 40, drop=0.5)


@pytest.fixture
def model(vocab_size):
    torch.manual_seed(0)
    encoder = TextEncoder(vocab_size, 16, 1, 2, pool="max")
    return {"text": encoder}, BagOfWords(16, vocab_size)


def items(prepare, texts=TEXTS, training=True):
    return [
        prepare(Sample("s.tar", f"{number}", {"txt": text.encode()}), generator(number), training)
        for number, text in enumerate(texts)
    ]


@pytest.mark.parametrize("training", [True, False])
def test_a_text_lacks_some_of_its_words_and_all_are_asked_for(prepare, tokenizer_path, training):
    whole = [one["tokens"].tolist() for one in items(TextPrepare(tokenizer_path, 40), training=training)]
    found = items(prepare, training=training)
    for item, tokens in zip(found, whole, strict=True):
        assert item["words"].tolist() == sorted(set(tokens[1:-1]))
        rest = iter(tokens)
        assert all(token in rest for token in item["tokens"].tolist())
    assert sum(len(item["tokens"]) for item in found) < sum(map(len, whole))


def test_loss_is_that_of_a_plain_loop(prepare, model):
    encoders, objective = model
    batch = prepare.collate(items(prepare))
    loss, sums = objective(encoders, batch, Step(), {})
    chances = objective.output(encoders["text"].pooled(batch["text"])).log_softmax(1).detach()
    expected, hits = 0.0, 0
    for row, item in zip(chances, items(prepare), strict=True):
        expected -= float(row[item["words"]].mean())
        hits += int(row.argmax()) in item["words"]
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert int(sums["hits"]) == hits
    assert objective.count(batch) == len(TEXTS)


def test_micro_batches_sum_to_the_whole(prepare, model):
    encoders, objective = model
    parameters = [*encoders["text"].parameters(), *objective.parameters()]

    def gradients(parts):
        for parameter in parameters:
            parameter.grad = None
        values = objective.step(encoders, [prepare.collate(part) for part in parts], Step(), 1.0)
        return values, [parameter.grad.clone() for parameter in parameters]

    made = items(prepare)
    whole, one = gradients([made])
    divided, several = gradients([made[:1], made[1:]])
    assert set(whole) >= {"loss", "hit@1"}
    for name in whole:
        torch.testing.assert_close(whole[name], divided[name])
    for a, b in zip(one, several, strict=True):
        torch.testing.assert_close(a, b)


def test_chance_is_the_best_that_looks_at_no_text(prepare, model):
    encoders, objective = model
    batch = prepare.collate(items(prepare))
    objective.eval()
    loss, sums = objective(encoders, batch, Step(), {})
    chance = objective.chance({"loss": loss, "count": torch.tensor(len(TEXTS)), **sums})
    words = [item["words"] for item in items(prepare)]
    shares = np.zeros(objective.vocab_size)
    for one in words:
        shares[one] += 1 / len(one) / len(words)
    constant = torch.full((objective.vocab_size,), -1e9)
    constant[shares > 0] = torch.from_numpy(np.log(shares[shares > 0])).float()
    with torch.no_grad():
        objective.output.weight.zero_()
        objective.output.bias.copy_(constant)
    best, _ = objective(encoders, batch, Step(), {})
    assert best.item() / len(TEXTS) == pytest.approx(chance["loss"], rel=1e-5)
    assert chance["loss"] < math.log(objective.vocab_size)
    common = max(sum(token in one for one in words) for token in range(objective.vocab_size))
    assert chance["hit@1"] == common / len(TEXTS)


def test_it_learns_what_is_in_a_text(prepare, model):
    encoders, objective = model
    parameters = [*encoders["text"].parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW(parameters, 1e-2)
    batch = prepare.collate(items(prepare))
    for _ in range(60):
        optimizer.zero_grad()
        values = objective.step(encoders, [batch], Step(), 1.0)
        optimizer.step()
    entropy = float(np.mean([math.log(len(item["words"])) for item in items(prepare)]))
    assert float(values["loss"]) < entropy + 0.1
    assert float(values["hit@1"]) == 1


def test_an_encoder_of_another_size_is_refused(model, vocab_size):
    encoders, _ = model
    assert BagOfWords(16, vocab_size).accept(encoders) is None
    assert "vocab_size=7" in BagOfWords(16, 7).accept(encoders)

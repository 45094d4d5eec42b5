"""Which pieces of words a text has, from its one vector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from data.errors import InputError, SampleError
from data.sample import Sample
from data.seeds import generator
from modalities.objective import Step
from modalities.text.bag_of_ngrams import BagOfNgrams, TextAndNgrams, ngrams
from modalities.text.encoder import TextEncoder
from modalities.text.prepare import TextPrepare

TEXTS = ["the card has not come yet", "where is my card", "the the the", "nobody knows where it may be and why"]
WIDTH, BUCKETS = 16, 509
FAR = 2**40  # so many buckets that two n-grams never share one


@pytest.fixture
def prepare(tokenizer_path):
    return TextAndNgrams(tokenizer_path, 40, buckets=BUCKETS, drop=0.5)


@pytest.fixture
def model(vocab_size):
    torch.manual_seed(0)
    return {"text": TextEncoder(vocab_size, WIDTH, 1, 2, pool="max")}, BagOfNgrams(WIDTH, BUCKETS)


def items(prepare, texts=TEXTS, training=True):
    return [
        prepare(Sample("s.tar", f"{number}", {"txt": text.encode()}), generator(number), training)
        for number, text in enumerate(texts)
    ]


@given(st.text("abçé 字?", max_size=20), st.text("abçé 字?", max_size=20), st.integers(2, 6))
def test_n_grams_are_those_of_scikit_learn(one, other, longest):
    analyze = CountVectorizer(analyzer="char_wb", ngram_range=(2, longest)).build_analyzer()
    texts = [one, other]
    wanted = [set(analyze(text)) if text.split() else set() for text in texts]
    found = [ngrams(text, range(2, longest + 1), FAR) for text in texts]
    assert [len(numbers) for numbers in found] == [len(grams) for grams in wanted]
    assert len(np.intersect1d(*found)) == len(set.intersection(*wanted))


def test_the_hash_is_the_same_for_ever():
    assert ngrams("ab", [2], FAR).tolist() == [337014230080, 464824488447, 836418976556]
    assert ngrams("ab  ab\n", [2], 100).tolist() == ngrams("ab", [2], 100).tolist()
    assert len(ngrams("a", [5], FAR)) == len(ngrams(" \n", [2], FAR)) == 0


@pytest.mark.parametrize("training", [True, False])
def test_a_text_lacks_some_of_its_words_and_all_are_asked_for(prepare, tokenizer_path, training):
    plain = TextPrepare(tokenizer_path, 40)
    whole = items(plain, training=training)
    found = items(prepare, training=training)
    for item, one in zip(found, whole, strict=True):
        assert item["ngrams"].tolist() == ngrams(plain.view(one)["text"], range(2, 6), BUCKETS).tolist()
        rest = iter(one["tokens"].tolist())
        assert all(token in rest for token in item["tokens"].tolist())
    assert sum(len(item["tokens"]) for item in found) < sum(len(one["tokens"]) for one in whole)


def test_loss_is_that_of_scikit_learn(prepare, model):
    encoders, objective = model
    made = items(prepare)
    batch = prepare.collate(made)
    values = objective.step(encoders, [batch], Step(), 1.0)
    has = np.zeros((len(TEXTS), BUCKETS))
    for row, item in zip(has, made, strict=True):
        row[item["ngrams"]] = 1
    wanted = TfidfTransformer().fit_transform(has).toarray()
    with torch.no_grad():
        said = objective.output(encoders["text"].pooled(batch["text"])).double().numpy()
    expected = 1 - (said / np.linalg.norm(said, axis=1, keepdims=True) * wanted).sum(1).mean()
    assert float(values["loss"]) == pytest.approx(expected, rel=1e-5)
    assert objective.count(batch) == len(TEXTS)
    objective.eval()
    measured = objective.measure(encoders, [batch], Step())["loss"]
    assert measured["value"] == pytest.approx(expected, rel=1e-5)
    best = wanted.mean(0) / np.linalg.norm(wanted.mean(0))
    assert measured["chance"] == pytest.approx(1 - (wanted @ best).mean(), rel=1e-5)


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
    torch.testing.assert_close(whole, divided)
    for a, b in zip(one, several, strict=True):
        torch.testing.assert_close(a, b)


def test_it_learns_what_is_in_a_text(prepare, model):
    encoders, objective = model
    optimizer = torch.optim.AdamW([*encoders["text"].parameters(), *objective.parameters()], 1e-2)
    batch = prepare.collate(items(prepare))
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(float(objective.step(encoders, [batch], Step(), 1.0)["loss"]))
        optimizer.step()
    assert losses[0] > 0.9
    assert losses[-1] < 0.05


def test_what_does_not_fit_is_refused(prepare, model, tokenizer_path):
    encoders, objective = model
    assert objective.accept(encoders) is None
    assert "width=7" in BagOfNgrams(7, BUCKETS).accept(encoders)
    with pytest.raises(InputError, match="shortest=1 is not between 2 and longest=5"):
        TextAndNgrams(tokenizer_path, 40, shortest=1)
    with pytest.raises(InputError, match="buckets=0"):
        TextAndNgrams(tokenizer_path, 40, buckets=0)
    long = TextAndNgrams(tokenizer_path, 40, shortest=6, longest=6)
    assert len(items(long, ["a be card"])[0]["ngrams"]) == 1
    with pytest.raises(SampleError, match="no word of the text has 4 characters or more"):
        items(long, ["a be car"])

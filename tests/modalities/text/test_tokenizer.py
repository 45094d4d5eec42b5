import copy
import pickle

import pytest

from data.errors import InputError
from modalities.text.tokenizer import SPECIAL, TextTokenizer, train


def test_any_text_survives_a_round_trip(tokenizer_path):
    tokenizer = TextTokenizer(tokenizer_path)
    for text in ("red circle", "naïve Ωmega 漢字 🙂", "tabs\tand\nlines", "[MASK] is no word"):
        assert tokenizer.decode(tokenizer.encode(text)).strip() == text


def test_special_tokens_come_first_and_training_is_deterministic(tmp_path):
    texts = ["one two three"] * 20 + ["red green blue"] * 10
    for name in ("a", "b"):
        train(texts, 280).save(str(tmp_path / name))
    a, b = TextTokenizer(str(tmp_path / "a")), TextTokenizer(str(tmp_path / "b"))
    assert a.digest == b.digest
    assert [a.number(token) for token in SPECIAL] == list(range(5))
    with pytest.raises(InputError, match=r"has no \[X\] token"):
        a.number("[X]")


def test_it_travels_as_its_path(tokenizer_path):
    tokenizer = TextTokenizer(tokenizer_path)
    before = tokenizer.encode("red")
    assert len(pickle.dumps(tokenizer)) < 500
    assert copy.deepcopy(tokenizer).encode("red") == before  # by the same protocol


def test_a_vocabulary_too_small_for_the_bytes_is_refused():
    with pytest.raises(InputError, match="at least 261"):
        train(["a"], 260)


def test_a_tokenizer_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no.json' does not exist; train one on the texts"):
        TextTokenizer(str(tmp_path / "no.json"))

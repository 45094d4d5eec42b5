import pytest

from data.errors import InputError
from data.sample import Sample
from data.seeds import generator
from modalities.text.prepare import TextPrepare
from modalities.text.views import TextView

WORDS = "the card that was sent to me has not come yet and nobody knows where it may be"


def tokens(tokenizer_path, text=WORDS, seed=0, training=True, kind=TextView, **settings):
    prepare = kind(tokenizer_path, 200, **settings)
    return prepare(Sample("s.tar", "k", {"txt": text.encode()}), generator(seed), training)["tokens"].tolist()


def test_a_view_is_a_part_of_the_text_in_its_order(tokenizer_path):
    whole = tokens(tokenizer_path, kind=TextPrepare)
    shares = []
    for seed in range(60):
        view = tokens(tokenizer_path, seed=seed, drop=0.4)
        assert view == tokens(tokenizer_path, seed=seed, drop=0.4)
        assert (view[0], view[-1]) == (whole[0], whole[-1])
        rest = iter(whole)
        assert all(one in rest for one in view)
        shares.append((len(view) - 2) / (len(whole) - 2))
    assert sum(shares) / 60 == pytest.approx(0.6, abs=0.06)


def test_one_token_stays_and_held_out_texts_are_whole(tokenizer_path):
    assert all(len(tokens(tokenizer_path, "the card", seed=seed, drop=0.999)) >= 3 for seed in range(20))
    assert tokens(tokenizer_path, training=False) == tokens(tokenizer_path, kind=TextPrepare)
    with pytest.raises(InputError, match="drop=1"):
        TextView(tokenizer_path, 200, drop=1.0)

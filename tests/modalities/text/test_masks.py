import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from data.errors import InputError
from data.sample import Sample
from data.seeds import generator
from modalities.text.masked_lm import MaskedText
from modalities.text.masks import Masking
from modalities.text.tokenizer import MASK, SPECIAL, TextTokenizer
from modalities.text.words import WordBegins
from tests.conftest import sentence


def words_of(pieces):
    """Word number of each token, by a plain loop."""
    number, found = 0, []
    for n, piece in enumerate(pieces):
        number += n > 0 and piece.startswith("Ġ")
        found.append(number)
    return np.array(found)


@pytest.fixture(scope="module")
def prepares(tokenizer_path):
    return {kind: MaskedText(tokenizer_path, 512, masking=kind) for kind in ("token", "word", "span")}


LONG = "reddest circles abovely squared farther starring unknownwords " * 12


@pytest.mark.parametrize("kind", ["word", "span"])
def test_words_are_never_split(prepares, kind):
    prepare, pieces = prepares[kind], prepares[kind].tokenizer.pieces()
    split = 0
    for number in range(100):
        text = Sample("s", "k", {"txt": f"{sentence(number)} {LONG} {sentence(number, 9)}".encode()})
        original = prepare.tokens(text, generator(number), True)
        item = prepare(text, generator(number), True)
        words = words_of([pieces[t] for t in original[1:-1]])
        chosen = np.zeros(len(words), bool)
        chosen[item["masked"] - 1] = True
        share = np.bincount(words, chosen) / np.bincount(words)
        assert set(share) <= {0.0, 1.0}
        assert (item["labels"] == original[item["masked"]]).all()
        split += (np.bincount(words) > 1).any()
    assert split == 100  # there were words of several tokens


@pytest.mark.parametrize("kind", ["token", "word", "span"])
@pytest.mark.parametrize("probability", [0.15, 0.4])
def test_the_share_of_tokens_is_exact_in_expectation_and_the_same_everywhere(kind, probability):
    masking, rng = Masking(kind, probability), np.random.default_rng(0)
    lengths = np.array([1, 3, 1, 1, 5, 2, 1, 1, 1, 4, 1, 2, 2, 1, 1, 7, 1, 1, 1, 1, 1, 2, 1, 1])
    begins = np.concatenate([[True] + [False] * (n - 1) for n in lengths])
    runs, counts = 20000, np.zeros(len(begins))
    for _ in range(runs):
        chosen, fates = masking.choose(begins, len(begins), rng)
        counts[chosen] += 1
        assert len(fates) == len(chosen)
    # Five standard errors a place; all of a word share theirs.
    assert (abs(counts / runs - probability) < 5 * (probability * (1 - probability) / runs) ** 0.5).all()


def test_lengths_of_spans_are_spanberts():
    masking, rng, lengths = Masking("span", 0.15), np.random.default_rng(0), []
    for _ in range(3000):
        found = masking._words(1000, rng)
        edges = np.flatnonzero(np.diff(found)) + 1
        runs = np.split(found, edges)
        lengths += [len(run) for run in runs[1:-1] if run[0] >= 0]  # those at the ends may be cut
    expected = 0.2 * 0.8 ** np.arange(10)
    expected /= expected.sum()
    share = np.bincount(lengths, minlength=11)[1:] / len(lengths)
    # One span a text is cut to meet the budget: 1 of 40.
    assert max(lengths) == 10
    assert abs(share - expected).max() < 0.015
    assert np.mean(lengths) == pytest.approx(3.8, abs=0.1)  # section 3.1


def test_the_budget_is_met_to_the_word():
    rng = np.random.default_rng(0)
    for kind in ("word", "span"):
        counts = {int((Masking(kind, 0.15)._words(30, rng) >= 0).sum()) for _ in range(300)}
        assert counts == {4, 5}
        assert {int((Masking(kind, 0.01)._words(3, rng) >= 0).sum()) for _ in range(50)} == {1}
        assert {int((Masking(kind, 0.99)._words(2, rng) >= 0).sum()) for _ in range(50)} <= {1, 2}


@pytest.mark.parametrize("kind", ["token", "word", "span"])
@pytest.mark.parametrize("replace", [(1.0, 0.0), (0.8, 0.1), (0.5, 0.5), (0.0, 0.0)])
def test_replacements_have_their_shares(kind, replace, tokenizer_path):
    prepare = MaskedText(tokenizer_path, 512, masking=kind, replace=replace)
    kinds, spans = np.zeros(3), 0
    for number in range(300):
        item = prepare(Sample("s", "k", {"txt": sentence(number, 200).encode()}), generator(number), True)
        now, was = item["tokens"][item["masked"]], item["labels"]
        is_mask = now == prepare.tokenizer.number(MASK)
        kinds += [is_mask.sum(), (~is_mask & (now != was)).sum(), (now == was).sum()]
        spans += (np.diff(item["masked"]) > 1).sum() + 1
    share = kinds / kinds.sum()
    draws = kinds.sum() if kind != "span" else spans
    for found, expected in zip(share, (*replace, 1 - sum(replace)), strict=True):
        # A random token is the same one, or [MASK], once in the vocabulary.
        assert abs(found - expected) <= 6 * (expected * (1 - expected) / draws) ** 0.5 + 2 * replace[1] / 300


def test_a_span_shares_one_fate():
    masking, rng = Masking("span", 0.3, (0.5, 0.0)), np.random.default_rng(0)
    labels = np.arange(100, 160)
    fates = np.repeat(np.arange(12), 5)
    mixed = 0
    for _ in range(50):
        seen = masking.replace(labels, fates, 4, 300, rng).reshape(12, 5) == 4
        assert (seen.all(1) | ~seen.any(1)).all()
        mixed += 0 < seen[:, 0].sum() < 12
    assert mixed > 40


def test_tokens_are_masked_as_ever(prepares):
    """The kind that there has always been, drawn as it always was."""
    prepare, text = prepares["token"], Sample("s", "k", {"txt": sentence(3, 40).encode()})
    for number in range(30):
        rng = generator(number)
        tokens = prepare.tokens(text, rng, True)
        inner = len(tokens) - 2
        masked = 1 + np.flatnonzero(rng.random(inner) < 0.15)
        if masked.size == 0:
            masked = 1 + rng.integers(inner, size=1)
        labels = tokens[masked]
        fate = rng.random(masked.size)
        seen = np.where(fate < 0.8, prepare.mask, labels)
        seen = np.where(fate >= 0.9, rng.integers(prepare.vocab_size, size=masked.size), seen)
        item = prepare(text, generator(number), True)
        assert (item["masked"] == masked).all()
        assert (item["tokens"][masked] == seen).all()


def test_masks_are_a_function_of_the_generator(prepares):
    text = Sample("s", "k", {"txt": sentence(5, 60).encode()})
    for prepare in prepares.values():
        items = [prepare(text, generator("t", n), True) for n in (1, 1, 2)]
        assert (items[0]["tokens"] == items[1]["tokens"]).all()
        assert items[0]["masked"].tolist() != items[2]["masked"].tolist()


def test_words_begin_where_the_pre_tokenisation_says(tokenizer_path):
    tokenizer = TextTokenizer(tokenizer_path)
    begins = WordBegins(tokenizer.pieces())
    for text in ("a reddest  circle\nabove\n\nthe\tsquare it's 12345", "ünïcode wörds ok"):
        ids = np.array(tokenizer.encode(text))
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=True).pre_tokenize_str(text)
        begun = [word for word, _ in byte_level]
        # Runs of tokens between beginnings put together are runs of pre-tokens, none of which is cut.
        edges = np.flatnonzero(begins(ids))[1:]
        words = ["".join(tokenizer.pieces()[t] for t in part) for part in np.split(ids, edges)]
        assert "".join(words) == "".join(begun)
        cuts, all_cuts = np.cumsum([len(w) for w in words]), np.cumsum([len(w) for w in begun])
        assert set(cuts) <= set(all_cuts)
        assert {c for c, w in zip(all_cuts[:-1], begun[1:], strict=True) if w.startswith("Ġ")} <= set(cuts)


def test_wordpiece_continues_words_with_its_mark():
    vocab = {"[UNK]": 0, "red": 1, "##dest": 2, "##er": 3, "circle": 4, ",": 5}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ids = np.array(tokenizer.encode("reddest red, reder circle").ids)
    begins = WordBegins(sorted(vocab, key=vocab.__getitem__))(ids)
    assert begins.tolist() == [True, False, True, True, True, False, True]


def clip_like():
    """CLIP's: bytes, the end of a word marked, the blank among the bytes."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="[UNK]"))
    split = pre_tokenizers.Split(Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True)
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return tokenizer, trainers.BpeTrainer(
        vocab_size=560, special_tokens=list(SPECIAL), end_of_word_suffix="</w>", initial_alphabet=alphabet
    )


def word_level():
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer, trainers.WordLevelTrainer(special_tokens=list(SPECIAL))


def unmarked():
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer, trainers.BpeTrainer(vocab_size=60, special_tokens=list(SPECIAL))


@pytest.fixture(params=[clip_like, word_level, unmarked])
def foreign(request, tmp_path):
    tokenizer, trainer = request.param()
    tokenizer.train_from_iterator([LONG], trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return request.param, tokenizer, str(tmp_path / "tokenizer.json")


def test_words_of_other_tokenizers_are_those_of_their_pre_tokenizer(foreign):
    made, tokenizer, path = foreign
    if made is unmarked:
        for kind in ("word", "span"):
            with pytest.raises(
                InputError, match=r"kind BPE whose tokens do not say where a word begins.*masking: token"
            ):
                MaskedText(path, 512, masking=kind)
        return
    found = tokenizer.encode(LONG)
    begins = MaskedText(path, 512, masking="word").begins(np.array(found.ids))
    words = np.array(found.word_ids)
    assert begins.tolist() == [True, *(words[1:] != words[:-1])]
    assert begins.sum() == len(LONG.split())


def test_wrong_settings_are_named():
    for arguments, message in (
        (("words", 0.15), "masking 'words' is not there; did you mean 'word'?"),
        (("word", 1.0), "mlm_probability=1.0"),
        (("word", 0.15, (0.9, 0.2)), r"replace=\[0.9, 0.2\]"),
        (("word", 0.15, (0.9,)), r"replace=\[0.9\]"),
        (("span", 0.15, (0.8, 0.1), 1.0), "span_p=1.0"),
        (("span", 0.15, (0.8, 0.1), 0.2, 0), "span_max=0"),
    ):
        with pytest.raises(InputError, match=message.replace("?", r"\?")):
            Masking(*arguments)

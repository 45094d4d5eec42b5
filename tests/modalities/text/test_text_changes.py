import numpy as np
import pytest

from data.errors import InputError
from modalities.text.changes import CHANGES, Replace, Typos

TEXT = "The big red circle, left of a small star!"


def changed(name, text=TEXT, seed=0, **arguments):
    return CHANGES[name](**arguments)(text, np.random.default_rng(seed))


def test_typos_are_single_slips_in_longer_words():
    found = changed("typos", share=0.01)
    before, after = TEXT.split(), found.split()
    differing = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert len(differing) == 1
    ((a, b),) = differing
    assert len(a) >= 4 and a[0] == b[0] and abs(len(a) - len(b)) <= 1  # noqa: PT018
    every = changed("typos", share=1.0).split()
    assert sum(a != b for a, b in zip(before, every, strict=True)) == 4  # circle, left, small, star; The is too short
    assert changed("typos", text="a to be") is None


def test_each_is_what_it_says():
    assert changed("case", to="upper") == TEXT.upper()
    assert changed("case", text="ABC", to="upper") is None
    assert changed("punctuation") == "The big red circle left of a small star"
    assert changed("punctuation", text="no marks") is None
    assert changed("punctuation", text="no end", add=True) == "no end."
    assert changed("punctuation", add=True) is None
    assert sorted(changed("shuffle").split()) == sorted(TEXT.split())
    swapped = changed("swap_words").split()
    assert sum(a != b for a, b in zip(TEXT.split(), swapped, strict=True)) == 2
    assert changed("shuffle", text="one") is None
    assert len(changed("drop_words", share=0.5).split()) == 5
    assert changed("drop_words", text="one", share=0.5) is None


def test_replaced_are_whole_words_with_their_capitals():
    words = {"the": "a", "big": ["large"], "star": ["sun", "moon"]}
    found = {changed("replace", seed=seed, words=words) for seed in range(20)}
    assert found == {f"A large red circle, left of a small {end}!" for end in ("sun", "moon")}
    assert changed("replace", text="bigger stars", words=words) is None


def test_the_same_generator_gives_the_same_and_another_another():
    for name in ("typos", "shuffle", "drop_words", "swap_words"):
        assert changed(name, seed=3) == changed(name, seed=3)
        assert len({changed(name, seed=seed) for seed in range(10)}) > 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Typos(0), "share=0 is not above 0"),
        (lambda: CHANGES["case"]("camel"), "to 'camel' is unknown; choices: lower, title, upper"),
        (lambda: CHANGES["swap_words"](0), "times=0"),
        (lambda: Replace({}), "words is empty"),
        (lambda: Replace({"New York": "Rome"}), "'New York' is no word of letters alone"),
        (lambda: Replace({"a": []}), "nothing in the place of 'a'"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()

"""Changes of a text that people make without noticing, or that change what it says: for behavioural tests.

Each is a class whose instances take (text, generator) and give the changed text, None where there is nothing to change.
A character that is no letter (a mark for a word, say) is left alone, though it may move.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from data.errors import InputError, choices

_WORD = re.compile(r"[^\W\d_]+")
_MARKS = re.compile(r"[.,;:!?\"'()\[\]\u2026\u201c\u201d\u2018\u2019\u00ab\u00bb-]")
_ENDS = (".", "!", "?", "…", ":")
CASES = ("lower", "upper", "title")
_LEAST = 4  # letters of a word that still can be read with one of them wrong


class Typos:
    """One slip in each of some words: two letters swapped, one left out or doubled; never the first letter.

    Args:
        share: of the words of four letters and more; at least one.
    """

    def __init__(self, share: float = 0.1) -> None:
        self.share = _share(share)

    def __call__(self, text: str, rng: np.random.Generator) -> str | None:
        """The text with slips."""
        words = [word for word in _WORD.finditer(text) if len(word[0]) >= _LEAST]
        if not words:
            return None
        count = max(1, round(self.share * len(words)))
        for number in sorted(rng.permutation(len(words))[:count].tolist(), reverse=True):
            begin, end = words[number].span()
            text = text[:begin] + _slip(text[begin:end], rng) + text[end:]
        return text


class Case:
    """Other letters, small or capital.

    Args:
        to: ``lower``, ``upper`` or ``title``.
    """

    def __init__(self, to: str = "upper") -> None:
        if to not in CASES:
            raise InputError(f"to '{to}' is unknown; {choices(to, CASES)}")
        self.to = to

    def __call__(self, text: str, rng: np.random.Generator) -> str | None:
        """The text in that case."""
        return _other(text, getattr(text, self.to)())


class Punctuation:
    """Without any marks, or with a full stop where there is none at the end.

    Args:
        add: the latter.
    """

    def __init__(self, add: bool = False) -> None:
        self.add = add

    def __call__(self, text: str, rng: np.random.Generator) -> str | None:
        """The text with or without."""
        if self.add:
            return None if text.endswith(_ENDS) else f"{text}."
        return _other(text, " ".join(_MARKS.sub(" ", text).split()))


class SwapWords:
    """Neighbouring words change places.

    Args:
        times: how often.
    """

    def __init__(self, times: int = 1) -> None:
        if times < 1:
            raise InputError(f"times={times} is not 1 or more")
        self.times = times

    def __call__(self, text: str, rng: np.random.Generator) -> str | None:
        """The text with words swapped."""
        words = text.split()
        for _ in range(self.times if len(words) > 1 else 0):
            place = int(rng.integers(len(words) - 1))
            words[place : place + 2] = words[place : place + 2][::-1]
        return _other(text, " ".join(words))


class Shuffle:
    """All words in another order."""

    def __call__(self, text: str, rng: np.random.Generator) -> str | None:
        """The words, shuffled."""
        words = text.split()
        return _other(text, " ".join(words[place] for place in rng.permutation(len(words)).tolist()))


class DropWords:
    """Some words are not there.

    Args:
        share: of them; at least one.
    """

    def __init__(self, share: float = 0.2) -> None:
        self.share = _share(share)

    def __call__(self, text: str, rng: np.random.Generator) -> str | None:
        """What is left."""
        words = text.split()
        gone = set(rng.permutation(len(words))[: max(1, round(self.share * len(words)))].tolist())
        left = " ".join(word for place, word in enumerate(words) if place not in gone)
        return left or None


class Replace:
    """Words by others: synonyms, which should change nothing, or opposites, which should.

    Args:
        words: word -> what may stand in its place, one or several; whole words, small letters.
    """

    def __init__(self, words: Mapping[str, str | Sequence[str]]) -> None:
        if not words:
            raise InputError("words is empty; give {word: [others]}")
        self.words: dict[str, list[str]] = {}
        for word, others in words.items():
            if not _WORD.fullmatch(str(word)):
                raise InputError(f"words: '{word}' is no word of letters alone, and nothing would match it")
            self.words[str(word).lower()] = [others] if isinstance(others, str) else [str(one) for one in others]
            if not self.words[str(word).lower()]:
                raise InputError(f"words has nothing in the place of '{word}'")

    def __call__(self, text: str, rng: np.random.Generator) -> str | None:
        """The text with all that it has of these words replaced."""

        def other(match: re.Match[str]) -> str:
            known = self.words.get(match[0].lower())
            if known is None:
                return match[0]
            new = known[int(rng.integers(len(known)))]
            return new.capitalize() if match[0][0].isupper() else new

        return _other(text, _WORD.sub(other, text))


CHANGES = {
    "typos": Typos,
    "case": Case,
    "punctuation": Punctuation,
    "swap_words": SwapWords,
    "shuffle": Shuffle,
    "drop_words": DropWords,
    "replace": Replace,
}
"""Name in a suite -> class."""


def _slip(word: str, rng: np.random.Generator) -> str:
    place, kind = int(rng.integers(1, len(word) - 1)), int(rng.integers(3))
    if kind == 0 and word[place] != word[place + 1]:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + word[place + 1 :] if kind == 1 else word[: place + 1] + word[place:]


def _other(text: str, changed: str) -> str | None:
    return changed if changed and changed != text else None


def _share(share: float) -> float:
    if not 0 < share <= 1:
        raise InputError(f"share={share} is not above 0 and at most 1")
    return share

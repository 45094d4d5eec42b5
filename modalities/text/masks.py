"""Which tokens a masked language model has to find again, and what it sees in their place. n tokens, W words.

All draws come from the generator that is handed in, the sample's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.errors import InputError, choices

KINDS = ("token", "word", "span")


class Masking:
    """Chooses tokens and their replacements.

    ``token``: each token by itself with ``probability`` (BERT). ``word``: whole words; ``span``: runs of words of
    geometric length (SpanBERT, Joshi et al. 2020, section 3.1). Of W words exactly ``probability`` x W are chosen,
    rounded up or down by chance so that it holds on average, each word as likely as any other; so ``probability`` is
    the expected share of tokens too, however long words are. At least one token or word is always chosen, which
    raises the share in texts of fewer than 1 / ``probability`` words.

    Args:
        kind: one of ``token``, ``word``, ``span``.
        probability: share that is chosen.
        replace: shares of the chosen ones that become [MASK] and a random token; the rest stays as it is. With
            ``span`` a span shares one fate (SpanBERT), else each token has its own.
        span_p: of the geometric distribution of span lengths, in words.
        span_max: longest span; the distribution is cut there (SpanBERT: 10, 3.8 words on average).

    Raises:
        InputError: a setting is out of its range.
    """

    def __init__(
        self,
        kind: str,
        probability: float,
        replace: Sequence[float] = (0.8, 0.1),
        span_p: float = 0.2,
        span_max: int = 10,
    ) -> None:
        if kind not in KINDS:
            raise InputError(f"masking '{kind}' is not there; {choices(kind, KINDS)}")
        if not 0 < probability < 1:
            raise InputError(f"mlm_probability={probability} is not between 0 and 1")
        if len(replace) != 2 or min(replace) < 0 or sum(replace) > 1 + 1e-9:
            raise InputError(f"replace={list(replace)} is not two shares, masked and random, of at most 1 together")
        if not 0 < span_p < 1 or span_max < 1:
            raise InputError(f"span_p={span_p} is not between 0 and 1, or span_max={span_max} not 1 or more")
        self.kind, self.probability = kind, probability
        self.masked_share, self.random_share = replace
        self.span_max = span_max
        weights = span_p * (1 - span_p) ** np.arange(span_max)
        self._lengths = np.cumsum(weights / weights.sum())

    def choose(self, begins: np.ndarray | None, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(chosen places (m,) ascending, number of the fate that each shares (m,)).

        Args:
            begins: (n,) bool, whether a token begins a word; needed unless ``kind`` is ``token``.
            n: number of tokens.
            rng: the sample's own.
        """
        if self.kind == "token":
            chosen = np.flatnonzero(rng.random(n) < self.probability)
            if chosen.size == 0:
                chosen = rng.integers(n, size=1)
            return chosen, np.arange(chosen.size)
        assert begins is not None
        word = np.cumsum(begins) - begins[0]  # a text that was cropped inside a word begins with the rest of it
        of_word = self._words(int(word[-1]) + 1, rng)[word]
        chosen = np.flatnonzero(of_word >= 0)
        return chosen, np.arange(chosen.size) if self.kind == "word" else of_word[chosen]

    def _words(self, words: int, rng: np.random.Generator) -> np.ndarray:
        """(W,) int64: number of the span that a word belongs to, -1 for none."""
        budget = max(1, int(self.probability * words + rng.random()))
        found = np.full(words, -1)
        if self.kind == "word":
            found[rng.permutation(words)[:budget]] = 0
            return found
        lengths = 1 + np.searchsorted(self._lengths, rng.random(budget))
        lengths = np.minimum(lengths, self.span_max)  # a rounding above the last sum
        ends = np.cumsum(lengths)
        spans = int(np.searchsorted(ends, budget)) + 1
        lengths = lengths[:spans]
        lengths[-1] -= ends[spans - 1] - budget
        # Spans and single words are put into a random order on a ring, which is then cut at a random place: at the ends
        # of the text a word is as likely to be chosen as in its middle.
        items = words - budget + spans
        sizes = np.ones(items, dtype=np.int64)
        numbers = np.full(items, -1)
        places = rng.permutation(items)[:spans]
        sizes[places], numbers[places] = lengths, np.arange(spans)
        return np.roll(np.repeat(numbers, sizes), int(rng.integers(words)))

    def replace(
        self, labels: np.ndarray, fates: np.ndarray, mask: int, vocab_size: int, rng: np.random.Generator
    ) -> np.ndarray:
        """What is seen in place of ``labels`` (m,): ``mask``, a random token, or the label itself."""
        # One draw a fate: as many as there are tokens unless spans share theirs.
        fate = rng.random(int(fates.max()) + 1)[fates]
        seen = np.where(fate < self.masked_share, mask, labels)
        return np.where(fate >= 1 - self.random_share, rng.integers(vocab_size, size=labels.size), seen)

"""Bag-of-n-grams prediction: a text's one vector says which pieces of words it has, rare ones above all.

That a text is the sum of its character n-grams is Charagram's idea (Wieting et al. 2016, section 3.1), hashing them
fastText's (Bojanowski et al. 2017, section 3.2). Here they are what is predicted: words that share a stem share most
of what is to be told of them, so that "transferred" and "transfers" come to lie together without any text having both.
N texts, G distinct n-grams of each of them together, B buckets, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.errors import InputError, SampleError
from data.sample import Sample
from modalities.initialisation import initialise
from modalities.objective import Encoders, Objective, Step, Sums
from modalities.prepare import Batch, Item, lengths_of
from modalities.text.encoder import unfit
from modalities.text.prepare import TextPrepare
from modalities.text.views import TextView

_SPACE = ord(" ")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio: every bit of a character moves the upper ones


def ngrams(text: str, lengths: Sequence[int], buckets: int) -> np.ndarray:
    """The buckets, sorted and each once, of the character n-grams of ``text``, int64; none where all words are shorter.

    An n-gram lies within a word, with one space before and one behind it, as scikit-learn's ``char_wb`` has it.

    Args:
        text: any.
        lengths: of the n-grams, in characters.
        buckets: into how many they are hashed; the same on every machine.
    """
    words = text.split()
    if not words:
        return np.empty(0, dtype=np.int64)
    padded = f" {' '.join(words)} "
    codes = np.frombuffer(padded.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    spaces = np.concatenate(([0], np.cumsum(codes == _SPACE)))  # before each character
    found = [np.empty(0, dtype=np.uint64)]
    for length in lengths:
        count = len(codes) - length + 1
        if count < 1:
            continue
        hashed = np.full(count, length, dtype=np.uint64)
        for at in range(length):
            hashed = (hashed ^ codes[at : at + count]) * _FACTOR
            hashed ^= hashed >> np.uint64(29)
        inner = spaces[length - 1 : length - 1 + count] - spaces[1 : 1 + count]  # spaces beside the two ends
        found.append(hashed[inner == 0] if length > 2 else hashed)
    return np.unique((np.concatenate(found) >> np.uint64(16)) % np.uint64(buckets)).astype(np.int64)


class TextAndNgrams(TextView):
    """A text without some of its tokens, and which character n-grams all of it has.

    Held-out texts lack some, too: what is all there is hardly a question.

    Args:
        buckets: B, into which n-grams are hashed.
        shortest, longest: n-gram, in characters; a space before and behind a word counts.
        drop: share of the tokens that are left out.
        tokenizer, max_tokens, member, field, min_tokens, max_chars, too_long, max_bytes: see
            :class:`modalities.text.prepare.TextPrepare`.
    """

    def __init__(
        self,
        tokenizer: str,
        max_tokens: int,
        buckets: int = 8192,
        shortest: int = 2,
        longest: int = 5,
        drop: float = 0.15,
        member: str = "txt",
        field: str | None = None,
        min_tokens: int = 3,
        max_chars: int = 1_000_000,
        too_long: str = "crop",
        max_bytes: int = 64_000_000,
    ) -> None:
        super().__init__(tokenizer, max_tokens, drop, member, field, min_tokens, max_chars, too_long, max_bytes)
        if not 2 <= shortest <= longest:
            raise InputError(f"shortest={shortest} is not between 2 and longest={longest}")
        if buckets < 1:
            raise InputError(f"buckets={buckets} is not 1 or more")
        self.buckets, self.lengths = buckets, range(shortest, longest + 1)

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"tokens": (n,), "ngrams": (g,) distinct, of all of the text as the tokenizer reads it}``, int64."""
        tokens = TextPrepare.tokens(self, sample, rng, training)
        # As the tokenizer reads it back; a character that a window has cut into is none.
        text = self.tokenizer.decode(tokens[1:-1].tolist()).replace("\ufffd", " ")
        found = ngrams(text, self.lengths, self.buckets)
        if not len(found):
            least = max(1, self.lengths[0] - 2)
            reason = f"no word of the text has {least} characters or more (shortest={self.lengths[0]} with both spaces)"
            raise SampleError(reason, "too_short", self.source.member)
        return {"tokens": self.thinned(tokens, rng), "ngrams": found}

    def collate(self, items: list[Item]) -> Batch:
        """Adds (G,) ``ngrams`` and ``texts``, which of the N texts each is of."""
        texts = np.repeat(np.arange(len(items)), lengths_of(items, "ngrams"))
        more = {
            "ngrams": torch.from_numpy(np.concatenate([item["ngrams"] for item in items])),
            "texts": torch.from_numpy(texts),
        }
        return {"text": super().collate(items) | more, "size": len(items)}


class BagOfNgrams(Objective):
    """One minus the cosine between a text's n-grams, weighted by rarity, and a linear layer on its pooled vector.

    The weight of an n-gram that n of the N texts of the global batch have is ``1 + ln((1 + N) / (1 + n))``, the smooth
    inverse document frequency; of held-out texts the batch in which they are measured takes its place
    (``evaluate.batch_size``). The layer is linear, so what is to be told of a text has to be in its vector as it is.

    Args:
        width: D of the text encoder.
        buckets: B of the prepare.
    """

    sides: ClassVar[dict[str, str]] = {"text": "text"}

    def __init__(self, width: int, buckets: int) -> None:
        super().__init__()
        self.width, self.buckets = width, buckets
        self.output = nn.Linear(width, buckets)
        initialise(self.output)

    def accept(self, encoders: Encoders) -> str | None:
        """Why the encoders do not fit, None if they do."""
        return unfit(encoders["text"], {"width": self.width})

    def count(self, batch: Batch) -> int:
        """N."""
        return len(batch["text"]["layout"])

    def statistics(self, encoders: Encoders, batch: Batch) -> Sums:
        """``having`` (B,): how many of the texts have each n-gram."""
        ngrams = batch["text"]["ngrams"]
        ones = torch.ones_like(ngrams, dtype=torch.float64)
        return {"having": ones.new_zeros(self.buckets).index_add(0, ngrams, ones)}

    def forward(self, encoders: Encoders, batch: Batch, step: Step, totals: Sums) -> tuple[Tensor, Sums]:
        """One minus the cosine, summed over the texts; computed in float32, also under autocast."""
        inputs = batch["text"]
        found, texts = inputs["ngrams"], inputs["texts"]
        totals = totals if "having" in totals else totals | self.statistics(encoders, batch)
        rarity = 1 + ((1 + totals["count"]) / (1 + totals["having"])).log()
        weights = rarity.float()[found]
        said = self.output(encoders["text"].pooled(inputs)).float()
        none = said.new_zeros(len(said))
        weights = weights / none.index_add(0, texts, weights * weights).sqrt()[texts]
        alike = none.index_add(0, texts, F.normalize(said, dim=1)[texts, found] * weights)
        sums: Sums = {}
        if not self.training:
            mean = weights.new_zeros(self.buckets, dtype=torch.float64)
            sums["mean"] = mean.index_add(0, found, weights.double())
        return (1 - alike).sum(), sums

    def chance(self, sums: Sums) -> dict[str, float]:
        """The one answer that is best for all texts."""
        return {"loss": 1 - float(sums["mean"].norm() / sums["count"])}

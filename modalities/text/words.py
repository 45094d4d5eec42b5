"""Where words begin, by how a tokenizer's vocabulary writes its tokens. n tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.errors import InputError

# How byte-level BPE writes the white space that a token begins or ends with: blank, and line feed, tab and the like,
# which its pre-tokenisation (GPT-2) never joins to the word behind them.
BLANK, OTHER_BLANKS = "Ġ", tuple("ĉĊċČč")
SENTENCEPIECE, CONTINUED = "▁", "##"


class WordBegins:
    """Which tokens begin a word.

    Byte-level BPE marks the blank before a word, SentencePiece too, WordPiece the pieces that continue one, CLIP's BPE
    the piece that ends one; with WordLevel each token is a word.

    Args:
        pieces: id -> how the vocabulary writes the token.
        model: kind of the tokenizer's model, as its file names it.
        suffix: how the model marks the piece that ends a word, "" where it does not.

    Raises:
        InputError: the tokens do not say where a word begins.
    """

    def __init__(self, pieces: Sequence[str], model: str = "", suffix: str = "") -> None:
        none = np.zeros(len(pieces), dtype=bool)
        self._begins, self._ends = none, none
        if suffix:
            self._ends = np.array([piece.endswith(suffix) for piece in pieces])
        elif model == "WordLevel":
            self._begins = ~none
        elif any(piece.startswith(CONTINUED) and len(piece) > 2 for piece in pieces) and not _marks(pieces, BLANK):
            self._begins = np.array([not piece.startswith(CONTINUED) for piece in pieces])
        elif marks := next(
            (marks for marks in ((BLANK, *OTHER_BLANKS), (SENTENCEPIECE,)) if _marks(pieces, marks[0])), ()
        ):
            self._begins = np.array([piece.startswith(marks) for piece in pieces])
            self._ends = np.array([piece.endswith(OTHER_BLANKS) for piece in pieces])
        else:
            raise InputError(
                f"a tokenizer of kind {model or 'unknown'} whose tokens do not say where a word begins (no "
                f"{BLANK}, {SENTENCEPIECE}, {CONTINUED} and no end_of_word_suffix) cannot mask words or spans; "
                "use masking: token, or another tokenizer"
            )

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """(n,) ids -> (n,) bool; the first token always begins one."""
        begins = self._begins[tokens]
        begins[1:] |= self._ends[tokens[:-1]]
        begins[:1] = True
        return begins


def _marks(pieces: Sequence[str], mark: str) -> bool:
    return any(piece.startswith(mark) and len(piece) > len(mark) for piece in pieces)

"""Byte-level BPE tokenizers: trained on the user's own texts, kept as ``tokenizer.json`` beside the shards."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import tokenizers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from data.errors import InputError

PAD, UNKNOWN, START, END, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ELSEWHERE = {
    PAD: ("<pad>",),
    UNKNOWN: ("<unk>",),
    START: ("<|startoftext|>", "<s>", "<|endoftext|>"),
    END: ("<|endoftext|>", "</s>"),
    MASK: ("<mask>",),
}
"""Special token -> what tokenizers of CLIP, GPT-2 and others have in its place, the first that is there."""


LEAST = 256 + len(SPECIAL)
"""Entries of the smallest vocabulary: the bytes and the special tokens."""


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE (Radford et al. 2019, section 2.2) of ``vocab_size`` entries; any text can be encoded.

    The special tokens come first: [PAD] [UNK] [CLS] [SEP] [MASK].

    Raises:
        InputError: ``vocab_size`` cannot hold the 256 bytes and the special tokens.
    """
    if vocab_size < LEAST:
        raise InputError(f"vocab_size={vocab_size} is too small; a byte-level vocabulary needs at least {LEAST}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


class TextTokenizer:
    """A ``tokenizer.json`` in use. Cheap to send to a worker: it travels as its path.

    Attributes:
        path: the file.
    """

    def __init__(self, path: str) -> None:
        self.path = str(Path(path).expanduser())
        if not Path(self.path).is_file():
            raise InputError(
                f"tokenizer '{path}' does not exist; train one on the texts, or name another tokenizer.json"
            )

    def __getstate__(self) -> dict[str, str]:
        return {"path": self.path}

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        try:
            tokenizer = Tokenizer.from_file(self.path)
        except Exception as error:  # noqa: BLE001 - the library raises bare Exception for whatever is wrong in the file
            raise InputError(
                f"tokenizer '{self.path}' is not readable by tokenizers {tokenizers.__version__}: {error}"
            ) from None
        # Texts are encoded one at a time, by as many workers as there are to be; threads are of use for training alone.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        tokenizer.encode_special_tokens = True  # a text that says [MASK] says a word, not the token
        # Of published files some cut texts, and fill them up with [PAD], for the model they were saved with.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if getattr(tokenizer.model, "dropout", None):  # drawn from no seed: a text would be other tokens at each call
            tokenizer.model.dropout = None
        return tokenizer

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file: what token numbers mean. Stored in checkpoints."""
        return hashlib.sha256(Path(self.path).read_bytes()).hexdigest()

    @property
    def size(self) -> int:
        """V, one more than the highest id: the number of entries, where no id between them is left out."""
        return len(self.pieces())

    def number(self, token: str) -> int:
        """The id of a special token, or of what this vocabulary has in its place.

        Raises:
            InputError: the vocabulary lacks it.
        """
        found = self._tokenizer.token_to_id(self.special(token))
        assert found is not None
        return found

    def special(self, token: str) -> str:
        """How this vocabulary writes a special token: ``[CLS]`` is ``<|startoftext|>`` in CLIP's.

        Raises:
            InputError: the vocabulary has neither it nor anything in its place.
        """
        others = ELSEWHERE.get(token, ())
        for written in (token, *others):
            if self._tokenizer.token_to_id(written) is not None:
                return written
        raise InputError(f"tokenizer '{self.path}' has no {token} token" + "".join(f", nor {o}" for o in others))

    def content(self) -> str:
        """What decides which tokens a text becomes, as one string: equal for files that differ in form alone."""
        whole = json.loads(self._tokenizer.to_str())
        return json.dumps([whole[key] for key in ("model", "added_tokens", "normalizer", "pre_tokenizer")])

    def model(self) -> tuple[str, str]:
        """Kind of its model (``BPE``, ``WordPiece``, ...), and how that marks a piece that ends a word, "" if not."""
        model = json.loads(self._tokenizer.to_str())["model"]
        return model.get("type") or "", model.get("end_of_word_suffix") or ""

    def pieces(self) -> list[str]:
        """Id -> how the vocabulary writes the token ("" where an id is not in use)."""
        numbers = self._tokenizer.get_vocab()
        found = [""] * (max(numbers.values()) + 1)
        for piece, number in numbers.items():
            found[number] = piece
        return found

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``, without special tokens."""
        # The fast form does not note where in the text each token lies. There is none for a single text.
        return self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def located(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids of ``text``, without special tokens, and the characters of it that each stands for."""
        found = self._tokenizer.encode(text, add_special_tokens=False)
        return found.ids, found.offsets

    def decode(self, ids: list[int]) -> str:
        """The text of ``ids``."""
        return self._tokenizer.decode(ids)

"""The tokenizer that goes along: a tokenizer.json that adds the special tokens which our prepare adds itself."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from data.errors import InputError
from modalities.text.tokenizer import END, MASK, PAD, START, UNKNOWN, TextTokenizer
from pretrain.export.origin import Origin

FILE = "tokenizer.json"
NAMES = {
    "pad_token": PAD, "unk_token": UNKNOWN, "cls_token": START, "sep_token": END, "mask_token": MASK,
    "bos_token": START, "eos_token": END,
}  # fmt: skip


class Tokens:
    """The tokenizer of one encoder.

    Args:
        path: a ``tokenizer.json``.

    Attributes:
        source: the tokenizer, as it is used here.
        names: ``pad_token``, ``cls_token`` and so on -> how the vocabulary writes it, those that it has; the end pads
            where there is nothing else.
        ids: ``pad_token_id`` (None where the end pads), ``bos_token_id`` and so on for config.json.
    """

    def __init__(self, path: str) -> None:
        self.source = TextTokenizer(path)
        self.start, self.end = self.source.number(START), self.source.number(END)
        self.names = {key: name for key, token in NAMES.items() if (name := self._special(token)) is not None}
        pad = self.names.get("pad_token")
        self.ids: dict[str, int | None] = {
            "bos_token_id": self.start, "eos_token_id": self.end, "cls_token_id": self.start, "sep_token_id": self.end,
            "pad_token_id": None if pad is None else self.source.number(PAD),
        }  # fmt: skip
        # CLIP's and GPT-2's vocabularies have none, and their own tokenizers pad with the end, which the mask hides.
        self.names.setdefault("pad_token", self.names["eos_token"])

    def _special(self, token: str) -> str | None:
        try:
            return self.source.special(token)
        except InputError:
            return None

    def files(self, longest: int, causal: bool) -> dict[str, Any]:
        """The three files of a folder of ``transformers``, name -> content.

        Args:
            longest: tokens that the encoder takes.
            causal: no end token behind a text, so that it can be continued.
        """
        whole = json.loads(Path(self.source.path).read_text(encoding="utf-8"))
        if whole["model"].get("dropout"):
            whole["model"]["dropout"] = None  # as it is used here: a text is the same tokens at each call
        start, end = self.names["bos_token"], self.names["eos_token"]
        first = [{"SpecialToken": {"id": start, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
        second: list[dict[str, Any]] = [{"Sequence": {"id": "B", "type_id": 1}}]
        if not causal:
            first.append({"SpecialToken": {"id": end, "type_id": 0}})
            second.append({"SpecialToken": {"id": end, "type_id": 1}})
        numbers = {start: self.start} | ({} if causal else {end: self.end})
        whole |= {
            "truncation": None,
            "padding": None,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": first,
                "pair": [*first, *second],
                "special_tokens": {t: {"id": t, "ids": [n], "tokens": [t]} for t, n in numbers.items()},
            },
        }
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": longest, "padding_side": "right",
            "truncation_side": "right", "clean_up_tokenization_spaces": False,
            # A text that says [MASK] says a word, not the token, as it does here.
            "split_special_tokens": True,
            "model_input_names": ["input_ids", "attention_mask"],
            **self.names,
        }  # fmt: skip
        return {FILE: whole, "tokenizer_config.json": settings, "special_tokens_map.json": self.names}

    def expected(self, text: str, causal: bool) -> list[int]:
        """What the written tokenizer must make of ``text``: what our own prepare makes of it."""
        return [self.start, *self.source.encode(text), *([] if causal else [self.end])]


def tokens_of(origin: Origin, wanted: Collection[str], given: str | None) -> dict[str, Tokens]:
    """Encoder -> the tokenizer it was trained with.

    Args:
        origin: what is exported; it knows the digest.
        wanted: names of encoders; those of other modalities have none.
        given: another place where their tokenizer lies now.

    Raises:
        InputError: it is gone, or is another one now.
    """
    found = {}
    for name, digest in dict(origin.content.state.get("tokenizers", {})).items():
        if name not in wanted:
            continue
        path = given or _path(origin, name)
        if path is None or not Path(path).expanduser().is_file():
            raise InputError(f"the tokenizer '{path}' of encoder '{name}' is not there; give --tokenizer FILE")
        tokens = Tokens(path)
        if tokens.source.digest != digest:
            raise InputError(
                f"tokenizer '{path}' is not the one that encoder '{name}' was trained with (SHA-256 "
                f"{tokens.source.digest[:12]} instead of {digest[:12]}); give --tokenizer FILE"
            )
        found[name] = tokens
    return found


def _path(origin: Origin, encoder: str) -> str | None:
    for spec in origin.config["tasks"].values():
        for side, name in spec["encoders"].items():
            prepare: Mapping[str, Any] = spec["prepare"]
            part = prepare[side] if isinstance(prepare.get(side), Mapping) else prepare
            if name == encoder and isinstance(part.get("tokenizer"), str):
                return str(part["tokenizer"])
    return None

"""The text of a sample: a member that is text, or a field of one that is JSON or JSON lines."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from data.errors import InputError, SampleError
from data.sample import Sample, text_of

_HALF = re.compile("[\ud800-\udfff]")
_JSON, _LINES = ("json",), ("jsonl", "ndjson")


def whole(text: str) -> bool:
    """Whether ``text`` can be UTF-8: JSON may hold half of a character (U+D800 alone), which no tokenizer takes."""
    return text.isascii() or not _HALF.search(text)


class TextMember:
    """Where the text of a sample is.

    Args:
        member: extension. The last part says what it is: ``json``, ``jsonl`` and ``ndjson`` are decoded, everything
            else is text.
        field: in JSON, keys and places joined by dots: ``caption``, ``a.b.0``. Where that is a list of texts, one of
            them is drawn in training, and the first is taken on held-out data. Null: the value itself is the text.
            Of JSON lines one line is drawn, on held-out data the first: a shard of documents is better packed with a
            sample each (``pretrain shards pack``), so that an epoch has every document once.
        max_bytes: larger members are refused before they are decoded.
    """

    def __init__(self, member: str, field: str | None = None, max_bytes: int = 64_000_000) -> None:
        kind = member.rpartition(".")[2]
        self.lines, self.json = kind in _LINES, kind in _JSON + _LINES
        if field is not None and not self.json:
            raise InputError(f"field={field} needs a JSON member, but member={member} is text")
        self.member, self.field, self.max_bytes = member, field, max_bytes
        self.path = field.split(".") if field is not None else []

    def read(self, sample: Sample, rng: np.random.Generator, training: bool) -> str:
        """The text, stripped.

        Raises:
            SampleError: it is not there, not what it should be, or empty.
        """
        _, raw = sample.first((self.member,), "text", self.max_bytes)
        if not self.json:
            return text_of(raw, f"member {self.member}", self.member)
        if self.lines:
            lines = [line for line in raw.splitlines() if line.strip()]
            raw = lines[int(rng.integers(len(lines))) if training and len(lines) > 1 else 0] if lines else b""
        text = text_of(raw, f"member {self.member}", self.member)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = (str(error) or "nested too deep").splitlines()[0]
            raise SampleError(f"member {self.member} is no JSON: {reason}", "undecodable", self.member) from None
        value = self._find(value)
        if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            value = value[int(rng.integers(len(value))) if training else 0]
        if not isinstance(value, str):
            what = type(value).__name__ if value is not None else "null"
            raise SampleError(f"{self._name} is {what}, not text", "undecodable", self.member)
        if not value.strip():
            raise SampleError(f"{self._name} is empty", "empty", self.member)
        if not whole(value):
            raise SampleError(f"{self._name} holds half a character, which is no text", "not_utf8", self.member)
        return value.strip()

    @property
    def _name(self) -> str:
        return f"member {self.member}" + f", field {self.field}" * bool(self.path)

    def _find(self, value: Any) -> Any:
        for number, part in enumerate(self.path):
            here = ".".join(self.path[: number + 1])
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                has = ", ".join(sorted(value)[:8]) if isinstance(value, dict) else type(value).__name__
                if isinstance(value, list):
                    has = f"a list of {len(value)}"
                raise SampleError(f"member {self.member} has no field {here}; it has: {has}", "missing", self.member)
        return value

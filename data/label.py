"""What a sample is to be told as: a member of it, or a field of its JSON."""

from __future__ import annotations

import json
from typing import Any

from data.errors import InputError, SampleError
from data.sample import Sample, text_of


class Label:
    """Where the class of a sample is.

    Args:
        place: ``cls``: a member whose whole text is the class (what ``pretrain shards pack --label`` writes), or
            ``json.a.b``: a field of a JSON member; text, a number or true and false.

    Raises:
        InputError: a field of something that is no JSON.
    """

    def __init__(self, place: str) -> None:
        self.member, _, field = place.partition(".")
        self.path = field.split(".") if field else []
        if not self.member or (self.path and self.member != "json"):
            raise InputError(f"label '{place}' is neither a member (cls) nor a field of one that is JSON (json.label)")

    def __call__(self, sample: Sample) -> str:
        """The class.

        Raises:
            SampleError: it has none.
        """
        text = text_of(sample.contents([self.member])[0], f"member {self.member}", self.member)
        if not self.path:
            return text
        try:
            value: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SampleError(f"member json is no JSON: {str(error)[:80]}", "undecodable", "json") from None
        for part in self.path:
            if not isinstance(value, dict) or part not in value:
                raise SampleError(f"member json has no field {'.'.join(self.path)}", "missing", "json")
            value = value[part]
        if not isinstance(value, str | int | float):
            raise SampleError(f"field {'.'.join(self.path)} is {type(value).__name__}, no class", "undecodable", "json")
        return str(value)

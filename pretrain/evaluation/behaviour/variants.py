"""Prepares a sample as it is and as the tests change it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from data.errors import SampleError
from data.label import Label
from data.sample import Sample
from data.seeds import generator
from modalities.prepare import Item, Prepare
from modalities.text.member import TextMember
from pretrain.evaluation.behaviour.changes import Changes
from pretrain.evaluation.labels import Labelled

TEXT = "txt"
CONTENT = {"image": "pixels", "audio": "wave"}
"""Modality -> what of a prepared sample is changed."""


class Variants(Labelled):
    """A sample's own sides, and its changed ones.

    A change that finds nothing to change in a sample, or leaves nothing that can be used, does not apply to it: the
    side is that of the sample as it is, and its note says so.

    Args:
        name: of the evaluator; with the sample's key it seeds what a change draws.
        base: what prepares the changed modality; of texts, which has a text alone in a member ``txt``.
        changes: side -> what is done to it; None: nothing.
        text: where a text is; None for other modalities.
        others: further sides -> what prepares them.
        label: where the class is; None: it has none.
    """

    def __init__(
        self,
        name: str,
        base: Prepare,
        changes: Mapping[str, Changes | None],
        text: TextMember | None,
        others: Mapping[str, Prepare],
        label: Label | None,
    ) -> None:
        super().__init__({**dict.fromkeys(changes, base), **others}, label)
        self.name, self.base, self.changes, self.text, self.others = name, base, dict(changes), text, dict(others)

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """Those of the samples as they are."""
        own = super().needs
        return own | {"text": (self.text.member,)} if self.text else own

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """See :class:`Labelled`; the note has ``applies`` and, of texts, ``texts``, each side -> what it is."""
        label = self.label(sample) if self.label else ""
        text = self.text.read(sample, rng, False) if self.text else None
        whole = sample if text is None else _text(sample, text)
        own = self.base(whole, rng, training)
        items, texts, applies = {}, {}, {}
        for side, change in self.changes.items():
            changed, said = (own, text) if change is None else self._changed(side, change, whole, own, text)
            applies[side] = changed is not None
            items[side] = own if changed is None else changed
            if said is not None:
                texts[side] = said
        items |= {side: prepare(sample, rng, training) for side, prepare in self.others.items()}
        return {"sides": items, "label": label, "note": {"key": sample.key, "applies": applies, "texts": texts}}

    def _changed(
        self, side: str, change: Changes, sample: Sample, own: Item, text: str | None
    ) -> tuple[Item | None, str | None]:
        rng = generator("behaviour", self.name, side, sample.key)
        if text is not None:
            changed = change(text, rng)
            try:
                return (None if changed is None else self.base(_text(sample, changed), rng, False)), changed
            except SampleError:
                return None, None  # too short to be used, say: that is the change's doing, and no behaviour
        content = CONTENT[self.base.modality]
        changed = change(own[content], rng, getattr(self.base, "sample_rate", 0))
        return (None if changed is None else {**own, content: changed}), None


def _text(sample: Sample, text: str) -> Sample:
    return Sample(sample.shard, sample.key, {TEXT: text.encode()})


def applying(notes: list[dict[str, Any]], sides: list[str]) -> np.ndarray:
    """(N,) bool: whether all of ``sides`` apply to a sample."""
    return np.array([all(note["applies"].get(side, True) for side in sides) for note in notes], dtype=bool)

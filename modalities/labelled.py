"""What supervised prepares share: a sample's inputs, and what it is to be told as, among labels that the run knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from data.errors import InputError, SampleError
from data.label import label_of
from data.sample import Sample
from modalities.prepare import Item, Prepare, Sides


class Labelled(Sides):
    """The side ``input``, and the sample's text at ``label``; a subclass says what becomes of that text.

    Labels have the numbers of their places in ``labels``, which belongs to the run as its encoders do: a sample with
    another one cannot be used.

    Args:
        input: what prepares the inputs of the encoder.
        label: where the text is, see :func:`data.label.label_of`.
        labels: all there are; None: not known, which ``pretrain adapt`` finds out by :meth:`learn`.

    Raises:
        InputError: ``labels`` are not known, fewer than ``least``, or one is there twice.
    """

    least = 2

    def __init__(self, input: Prepare, label: str | Mapping[str, Any], labels: Sequence[str] | None) -> None:
        super().__init__(input=input)
        self.reader = label_of(label)
        self.labels = check_labels(labels, self.least)
        self._numbers = {text: number for number, text in enumerate(self.labels)}

    @classmethod
    def learn(cls, texts: Iterable[str], **settings: Any) -> list[str]:
        """The labels of which ``texts`` are made, in the order of their numbers.

        Args:
            texts: as ``label`` says where they are.
            settings: the prepare's further arguments.
        """
        return sorted(set(texts))

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """Those of the input, and the label."""
        return super().needs | ({"label": (self.reader.member,)} if self.reader.member else {})

    def number(self, text: str) -> int:
        """The number of a label.

        Raises:
            SampleError: the run has none for it.
        """
        if text not in self._numbers:
            reason = f"label '{text[:40]}' is none of the {len(self.labels)} that the run knows"
            raise SampleError(reason, "unknown_label", self.reader.member)
        return self._numbers[text]

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"input": item, "label": what :meth:`target` makes of the text}``."""
        # First what is cheap: a sample without a label need not be decoded.
        label = self.target(self.reader(sample))
        return {**super().__call__(sample, rng, training), "label": label}

    def target(self, text: str) -> Any:
        """What an objective is to tell of the sample.

        Raises:
            SampleError: the run knows no such label.
        """
        raise TypeError(f"{type(self).__name__} lacks target()")


def check_labels(labels: Sequence[str] | None, least: int = 2) -> list[str]:
    """``labels`` as texts.

    Raises:
        InputError: they are not known, too few, or one is there twice.
    """
    if labels is None:
        raise InputError("labels are not known; 'pretrain adapt' reads them from the source, or give labels=[...]")
    found = [str(one) for one in labels]
    twice = next((one for one in found if found.count(one) > 1), None) if len(set(found)) < len(found) else None
    if twice is not None:
        raise InputError(f"labels has '{twice}' twice")
    if len(found) < least:
        raise InputError(f"labels={found} has fewer than {least}: there is nothing to tell apart")
    return found

"""Classification: which of C classes a sample is of. B samples, D features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from modalities.initialisation import initialise
from modalities.labelled import Labelled, check_labels
from modalities.objective import Encoders, Objective, Step, Sums
from modalities.prepare import Batch, Item, Prepare


class Classified(Labelled):
    """A sample's inputs and the number of its class.

    Args:
        input, label, labels: see :class:`modalities.labelled.Labelled`.
    """

    def __init__(
        self, input: Prepare, label: str | Mapping[str, Any] = "cls", labels: Sequence[str] | None = None
    ) -> None:
        super().__init__(input, label, labels)

    def target(self, text: str) -> int:
        """The number of the class."""
        return self.number(text)

    def collate(self, items: list[Item]) -> Batch:
        """``{"input": batch, "labels": (B,) int64, "size": B}``."""
        return {**super().collate(items), "labels": torch.tensor([item["label"] for item in items])}


class Classification(Objective):
    """Cross-entropy of a linear layer on one vector a sample, pooled as the encoder pools.

    Args:
        width: D of the encoder.
        labels: the C classes, as its prepare has them.
        dropout: on the pooled features.
        smoothing: of the labels in training (Szegedy et al. 2016, section 7).
    """

    sides: ClassVar[dict[str, str]] = {"input": ""}

    def __init__(
        self, width: int, labels: Sequence[str] | None = None, dropout: float = 0.0, smoothing: float = 0.0
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1 or not 0 <= smoothing < 1:
            raise InputError(f"dropout={dropout} and smoothing={smoothing} must be 0 or more and less than 1")
        self.width, self.labels = width, check_labels(labels)
        self.dropout, self.smoothing = dropout, smoothing
        self.head = nn.Linear(width, len(self.labels))
        initialise(self.head)

    def accept(self, encoders: Encoders) -> str | None:
        """Why the encoder does not fit, None if it does."""
        width = encoders["input"].width
        return None if width == self.width else f"the objective has width={self.width}, its encoder width={width}"

    def count(self, batch: Batch) -> int:
        """B."""
        return int(batch["size"])

    def logits(self, encoders: Encoders, batch: Batch) -> Tensor:
        """(B, C), float32 or more."""
        pooled = encoders["input"].pooled(batch["input"])
        logits: Tensor = self.head(F.dropout(pooled, self.dropout, self.training))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def forward(self, encoders: Encoders, batch: Batch, step: Step, totals: Sums) -> tuple[Tensor, Sums]:
        """Cross-entropy summed over the samples; held out also how often each class was there, was said, was right."""
        logits, labels = self.logits(encoders, batch), batch["labels"]
        smoothing = self.smoothing if self.training else 0.0
        loss = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
        said = logits.detach().argmax(1)
        right = said == labels
        if self.training:
            return loss, {"right": right.sum()}
        pairs = {"there": labels, "said": said, "hits": labels[right]}
        return loss, {"right": right.sum()} | {
            name: torch.bincount(found, minlength=len(self.labels)) for name, found in pairs.items()
        }

    def summary(self, sums: Sums) -> dict[str, Tensor]:
        """``loss`` (nats a sample), ``accuracy``; held out ``macro_f1``, over classes that are there or were said."""
        found = {"loss": sums["loss"] / sums["count"], "accuracy": sums["right"] / sums["count"]}
        if "there" in sums:
            found["macro_f1"] = _macro_f1(sums["there"], sums["said"], sums["hits"])
        return found

    def chance(self, sums: Sums) -> dict[str, float]:
        """Knowing only how frequent each class is: their entropy; and always saying the most frequent one."""
        there = sums["there"].double()
        shares = there / there.sum()
        said = torch.zeros_like(there)
        said[int(there.argmax())] = there.sum()
        return {
            "loss": float(-(shares[shares > 0].log() * shares[shares > 0]).sum()),
            "accuracy": float(shares.max()),
            "macro_f1": float(_macro_f1(there, said, torch.minimum(there, said))),
        }

    def details(self, sums: Sums) -> dict[str, dict[str, Any]]:
        """``classes`` of the accuracy: how many samples are of each, how many were said to be, how many are both."""
        counts = {name: sums[key].tolist() for name, key in (("samples", "there"), ("said", "said"), ("right", "hits"))}
        classes = {label: {name: counts[name][n] for name in counts} for n, label in enumerate(self.labels)}
        return {"accuracy": {"classes": classes}}


def _macro_f1(there: Tensor, said: Tensor, hits: Tensor) -> Tensor:
    """() the mean F1 of the classes that are there or were said, from (C,) counts."""
    either = (there + said).double()
    return (2 * hits.double() / either.clamp(min=1)).sum() / (either > 0).sum()

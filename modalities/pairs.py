"""Objectives over all pairs of a batch: what contrastive losses share. Sides a and b, N pairs, E features.

The loss needs all N x N similarities of the global batch, which need not fit into memory at once: the sides are first
embedded without gradient, the loss of the whole matrix gives the gradient of each embedding, and each micro-batch is
then embedded again to pass that on (gradient cache, Gao et al. 2021, section 3.2). Gradients are those of one big
batch. A side whose encoder is frozen (LiT, Zhai et al. 2022) is embedded once. The similarities themselves are
computed a block of rows at a time where they are many (:mod:`modalities.similarity`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from modalities.encoder import Encoder
from modalities.objective import Encoders, Objective, Step
from modalities.prepare import Batch

SIDES = ("a", "b")


class Pairs(Objective):
    """Base of the losses of an N x N matrix; a subclass is the loss, :meth:`pairwise`, with its parameters.

    Args:
        embed_dim: E, size of the joint space. Tasks with the same ``embed_dim`` share each encoder's projection.
    """

    sides: ClassVar[dict[str, str]] = {"a": "", "b": ""}

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim

    def pairwise(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """(N, E) unit rows of both sides -> loss summed over the pairs, and how often the right pair came first."""
        raise TypeError(f"{type(self).__name__} lacks pairwise()")

    def settle(self) -> None:
        """Called before each step: puts parameters of the loss back to where they may be."""

    def learned(self) -> dict[str, Tensor]:
        """Metrics that say where the parameters of the loss are."""
        return {}

    def guess(self, pairs: int) -> float:
        """The loss a pair of a model that learned nothing, among ``pairs``."""
        return math.nan

    def connect(self, encoders: Encoders) -> None:
        """Each side gets a projection to the joint space."""
        for encoder in encoders.values():
            encoder.add_projection(self.embed_dim)

    def count(self, batch: Batch) -> int:
        """N."""
        return int(batch["size"])

    def features(self, encoder: Encoder, inputs: Any) -> Tensor:
        """(n, D) of one side, before anything of the objective: a frozen encoder gives them once."""
        return encoder.pooled(inputs)

    def project(self, encoder: Encoder, features: Tensor) -> Tensor:
        """(n, D) features -> (n, E) float32 unit vectors; draws nothing at random."""
        return F.normalize(encoder.projections[str(self.embed_dim)](features).float(), dim=-1)

    def embed(
        self, encoders: Encoders, batch: Batch, known: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(2, n, E) of both sides, and the features of frozen ones; those ``known`` are not computed again."""
        rows, kept = {}, dict(known or {})
        # Frozen ones last: what they draw at random, or do not where they are known, changes nothing of the other.
        for side in sorted(SIDES, key=lambda side: frozen(encoders[side])):
            features = kept[side] if side in kept else self.features(encoders[side], batch[side])
            rows[side] = self.project(encoders[side], features)
            if frozen(encoders[side]):
                kept[side] = features.detach()
        return torch.stack([rows[side] for side in SIDES]), kept

    def step(self, encoders: Encoders, batches: Sequence[Batch], step: Step, weight: float) -> dict[str, Tensor]:
        """See the module's head; with one micro-batch on one process it is a plain forward and backward."""
        self.settle()
        sizes = [int(batch["size"]) for batch in batches]
        alone = len(batches) == 1 and step.world_size == 1
        parts = []
        for micro, batch in enumerate(batches):
            step.seed(micro)
            with torch.set_grad_enabled(alone):
                parts.append(step.run(self.embed, encoders, batch))
        own = torch.cat([rows for rows, _ in parts], 1)
        if alone:
            loss, hits = self.pairwise(own[0], own[1])
            if loss.requires_grad:
                step.backward(loss * (weight / sizes[0]))
            return self._metrics(loss.detach(), hits, own.detach())

        # Rows of other processes are constants here; their own processes differentiate by them.
        everyone = step.all_gather(own.transpose(0, 1)).detach().requires_grad_()
        loss, hits = self.pairwise(everyone[:, 0], everyone[:, 1])
        total = len(everyone)
        trained = [p for p in self.parameters() if p.requires_grad]
        with torch.autocast(everyone.device.type, enabled=False):  # else the products of the gradient are in bfloat16
            found = torch.autograd.grad(loss * (weight / total), (everyone, *trained), allow_unused=True)
        row_grads = found[0]
        for parameter, grad in zip(trained, found[1:], strict=True):
            if grad is not None:  # None: no part of the loss, but of the way to the rows
                step.backward_alike((parameter * grad).sum())  # every process computes the same whole matrix
        begin = step.rank * sum(sizes)
        for micro, (batch, size, (_, known)) in enumerate(zip(batches, sizes, parts, strict=True)):
            step.seed(micro)
            again = step.run(self.embed, encoders, batch, known)[0].transpose(0, 1)
            if again.requires_grad:
                step.backward((again * row_grads[begin : begin + size]).sum())
            begin += size
        return self._metrics(loss.detach(), hits, everyone.detach().transpose(0, 1))

    def _metrics(self, loss: Tensor, hits: Tensor, rows: Tensor) -> dict[str, Tensor]:
        pairs = rows.shape[1]
        ranks = {f"effective_rank_{side}": effective_rank(own) for side, own in zip(SIDES, rows, strict=True)}
        return {"loss": loss / pairs, "batch_accuracy": hits / pairs, **ranks, **self.learned()}

    @torch.no_grad()
    def measure(self, encoders: Encoders, batches: Sequence[Batch], step: Step) -> dict[str, dict[str, float]]:
        """Loss over all held-out pairs at once, and recall@1 both ways among them."""
        a, b = torch.cat([self.embed(encoders, batch)[0] for batch in batches], 1)
        loss, _ = self.pairwise(a, b)
        names = [encoders[side].modality for side in SIDES]
        value, chance = float(loss) / len(a), self.guess(len(a))
        return {"loss": {"value": value} | ({} if math.isnan(chance) else {"chance": chance})} | recall(
            a, b, names[0], names[1]
        )


def frozen(encoder: Encoder) -> bool:
    """Whether nothing below its projections is trained, so that its features are constants."""
    return not any(p.requires_grad for name, p in encoder.named_parameters() if not name.startswith("projections."))


def effective_rank(rows: Tensor) -> Tensor:
    """(N, E) unit rows -> how many dimensions they take up, from 1 (all alike) to min(N, E); () of their type.

    The participation ratio of the squared singular values, (sum of s)^2 / sum of s^2: with unit rows the inverse of the
    mean squared similarity. It is the order-2 kin of RankMe (Garrido et al. 2023, eq. 1), which takes the entropy and
    needs the singular values themselves.
    """
    with torch.autocast(rows.device.type, enabled=False):
        gram = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows  # the same singular values, squared
        return len(rows) ** 2 / gram.square().sum()


def recall(a: Tensor, b: Tensor, name_a: str, name_b: str, k: int = 1) -> dict[str, dict[str, float]]:
    """recall@k both ways for (N, E) unit rows whose right partner has the same number; chance is k/N.

    Where both sides are named alike, as two views of a picture are, one number stands for both ways: their mean.

    A tie does not count as found: a collapsed encoder, to which all pairs look alike, scores 0; so does one that
    gives NaN.
    """
    with torch.autocast(a.device.type, enabled=False):  # rounding would make ties
        similarity = a @ b.T
    right = similarity.diagonal()
    ahead_b = (~(similarity < right[:, None])).sum(1) - 1
    ahead_a = (~(similarity < right[None])).sum(0) - 1
    found = {f"{name_a}_to_{name_b}_recall@{k}": ahead_b, f"{name_b}_to_{name_a}_recall@{k}": ahead_a}
    if name_a == name_b:
        found = {name: torch.cat((ahead_b, ahead_a)) for name in found}
    return {name: {"value": float((ahead < k).float().mean()), "chance": k / len(a)} for name, ahead in found.items()}

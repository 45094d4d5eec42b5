"""Contrastive learning of a pair of encoders (CLIP, Radford et al. 2021, section 2.3). Sides a and b, N pairs.

The loss needs all N x N similarities of the global batch, which need not fit into memory at once: the sides are first
embedded without gradient, the loss of the whole matrix gives the gradient of each embedding, and each micro-batch is
then embedded again to pass that on (gradient cache, Gao et al. 2021, section 3.2). Gradients are those of one big
batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from modalities.objective import Encoders, Objective, Step
from modalities.prepare import Batch

MAX_LOGIT_SCALE = math.log(100.0)


def info_nce(a: Tensor, b: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """(N, E) unit rows of both sides -> summed symmetric cross-entropy, and how often the right pair came first.

    Eq. in CLIP, figure 3: half the cross-entropy of a's rows and half of b's. Computed in the precision of the rows,
    also under autocast: eight bits of mantissa cannot tell the logits of a good model apart.
    """
    right = torch.arange(len(a), device=a.device)
    with torch.autocast(a.device.type, enabled=False):
        logits = scale * a @ b.T
        loss = (F.cross_entropy(logits, right, reduction="sum") + F.cross_entropy(logits.T, right, reduction="sum")) / 2
    hits = ((logits.argmax(0) == right).sum() + (logits.argmax(1) == right).sum()) / 2
    return loss, hits.detach()


class Contrastive(Objective):
    """Symmetric InfoNCE between any two encoders, with a learned temperature.

    Args:
        embed_dim: E, size of the joint space. Tasks with the same ``embed_dim`` share each encoder's projection.
        temperature: where the learned temperature begins; its inverse is clamped to at most 100 (CLIP, section 2.5).
    """

    sides: ClassVar[dict[str, str]] = {"a": "", "b": ""}

    def __init__(self, embed_dim: int, temperature: float = 0.07) -> None:
        super().__init__()
        if temperature < 0.01:
            raise InputError(f"temperature={temperature} is below 0.01, where the logit scale is clamped")
        self.embed_dim = embed_dim
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def connect(self, encoders: Encoders) -> None:
        """Each side gets a projection to the joint space."""
        for encoder in encoders.values():
            encoder.add_projection(self.embed_dim)

    def count(self, batch: Batch) -> int:
        """N."""
        return int(batch["size"])

    def embed(self, encoders: Encoders, batch: Batch) -> Tensor:
        """(2, n, E) float32 unit vectors of both sides."""
        sides = (F.normalize(encoders[side].embed(batch[side], self.embed_dim).float(), dim=-1) for side in ("a", "b"))
        return torch.stack(list(sides))

    def scale(self) -> Tensor:
        """The inverse temperature."""
        return self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()

    def step(self, encoders: Encoders, batches: Sequence[Batch], step: Step, weight: float) -> dict[str, Tensor]:
        """See the module's head; with one micro-batch on one process it is a plain forward and backward."""
        with torch.no_grad():  # in place, as CLIP does: beyond the clamp there would be no gradient to come back by
            self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        sizes = [int(batch["size"]) for batch in batches]
        alone = len(batches) == 1 and step.world_size == 1
        parts = []
        for micro, batch in enumerate(batches):
            step.seed(micro)
            with torch.set_grad_enabled(alone):
                parts.append(self.embed(encoders, batch))
        own = torch.cat(parts, 1)
        if alone:
            loss, hits = info_nce(own[0], own[1], self.scale())
            step.backward(loss * (weight / sizes[0]))
            return self._metrics(loss.detach(), hits, sizes[0])

        # Rows of other processes are constants here; their own processes differentiate by them.
        everyone = step.all_gather(own.transpose(0, 1)).detach().requires_grad_()
        loss, hits = info_nce(everyone[:, 0], everyone[:, 1], self.scale())
        total = len(everyone)
        row_grads, scale_grad = torch.autograd.grad(loss * (weight / total), (everyone, self.logit_scale))
        # Every process computes the same whole matrix, and gradients are summed over processes.
        step.backward(self.logit_scale * (scale_grad / step.world_size))
        begin = step.rank * sum(sizes)
        for micro, (batch, size) in enumerate(zip(batches, sizes, strict=True)):
            step.seed(micro)
            again = self.embed(encoders, batch).transpose(0, 1)
            step.backward((again * row_grads[begin : begin + size]).sum())
            begin += size
        return self._metrics(loss.detach(), hits, total)

    def _metrics(self, loss: Tensor, hits: Tensor, pairs: int) -> dict[str, Tensor]:
        return {"loss": loss / pairs, "batch_accuracy": hits / pairs, "temperature": 1 / self.scale().detach()}

    @torch.no_grad()
    def measure(self, encoders: Encoders, batches: Sequence[Batch], step: Step) -> dict[str, dict[str, float]]:
        """Loss over all held-out pairs at once, and recall@1 both ways among them."""
        a, b = torch.cat([self.embed(encoders, batch) for batch in batches], 1)
        loss, _ = info_nce(a, b, self.scale())
        names = [encoders[side].modality for side in ("a", "b")]
        return {"loss": {"value": float(loss) / len(a), "chance": math.log(len(a))}} | recall(a, b, names[0], names[1])


def recall(a: Tensor, b: Tensor, name_a: str, name_b: str, k: int = 1) -> dict[str, dict[str, float]]:
    """recall@k both ways for (N, E) unit rows whose right partner has the same number; chance is k/N.

    A tie does not count as found: a collapsed encoder, to which all pairs look alike, scores 0; so does one that
    gives NaN.
    """
    with torch.autocast(a.device.type, enabled=False):  # rounding would make ties
        similarity = a @ b.T
    right = similarity.diagonal()
    ahead_b = (~(similarity < right[:, None])).sum(1) - 1
    ahead_a = (~(similarity < right[None])).sum(0) - 1
    found: dict[str, Any] = {f"{name_a}_to_{name_b}_recall@{k}": ahead_b, f"{name_b}_to_{name_a}_recall@{k}": ahead_a}
    return {name: {"value": float((ahead < k).float().mean()), "chance": k / len(a)} for name, ahead in found.items()}

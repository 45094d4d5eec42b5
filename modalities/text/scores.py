"""Loss and scores of predicted tokens, shared by masked-LM and causal-LM. M predictions, V vocabulary entries."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from modalities.objective import Sums


def token_scores(logits: Tensor, labels: Tensor, held_out: bool) -> tuple[Tensor, Sums]:
    """Summed cross-entropy and sums for :func:`token_summary`, from (M, V) logits and (M,) labels.

    Held-out sums also count the labels (V,), from which :func:`token_chance` computes what guessing would give.
    """
    loss = F.cross_entropy(logits.float(), labels, reduction="sum")
    sums = {"correct": (logits.detach().argmax(-1) == labels).sum().double()}
    if held_out:
        sums["labels"] = torch.bincount(labels, minlength=logits.shape[-1]).double()
    return loss, sums


def token_summary(sums: Sums, accuracy: str) -> dict[str, Tensor]:
    """``loss`` in nats a token, the accuracy under its name, ``perplexity``."""
    loss = sums["loss"] / sums["count"]
    return {"loss": loss, accuracy: sums["correct"] / sums["count"], "perplexity": loss.exp()}


def token_chance(sums: Sums, accuracy: str) -> dict[str, float]:
    """The best that is possible without looking at the input: the frequencies of the held-out tokens themselves."""
    share = sums["labels"] / sums["labels"].sum()
    entropy = float(-(share[share > 0] * share[share > 0].log()).sum())
    return {"loss": entropy, accuracy: float(share.max()), "perplexity": float(torch.tensor(entropy).exp())}

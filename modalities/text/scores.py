"""Loss and scores of predicted tokens, shared by masked-LM and causal-LM. M predictions, V entries, D features."""

from __future__ import annotations

import torch
from torch import Tensor

from modalities.objective import Sums
from modalities.text.vocabulary import vocabulary_loss


def token_scores(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, held_out: bool
) -> tuple[Tensor, Sums]:
    """Summed cross-entropy and sums for :func:`token_summary`; arguments as of ``vocabulary_loss``.

    Held-out sums also count the labels (V,), from which :func:`token_chance` computes what guessing would give.
    """
    loss, hits = vocabulary_loss(hidden, weight, bias, labels)
    sums = {"correct": hits}
    if held_out:
        sums["labels"] = torch.bincount(labels, minlength=len(weight)).double()
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

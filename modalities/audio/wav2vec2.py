"""wav2vec 2.0 (Baevski et al. 2020, section 3.2). M masked frames, G groups of V codes, K negatives, F features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError, choices
from modalities.audio.encoder import AudioEncoder, Frames
from modalities.audio.quantizer import GumbelQuantizer, full, perplexity
from modalities.counter import fold
from modalities.layout import Layout
from modalities.objective import Encoders, Objective, Step, Sums
from modalities.prepare import Batch
from modalities.transformer import initialise

BEGINNINGS = ("bert", "wav2vec2")


class Wav2Vec2(Objective):
    """Tell the quantised frame that was masked from quantised frames masked elsewhere in the clip, using all codes.

    The loss is eq. 2: contrastive (eq. 3) and ``diversity_weight`` times diversity (eq. 4), whose average runs over
    the masked frames of the whole global batch.

    Args:
        channels: C of the audio encoder, whose front end gives the targets.
        width: D of the audio encoder.
        latent_groups, latent_vars, latent_dim, latent_temp: see :class:`modalities.audio.quantizer.GumbelQuantizer`.
        final_dim: F, in which targets and predictions are compared.
        logit_temp: what cosine similarities are divided by.
        diversity_weight: alpha of eq. 2.
        feature_penalty: weight of the mean square of the front end's output (fairseq: 10 for the base model, 0 for
            the large one, whose LayerNorm bounds it).
        feature_dropout: on the frames that the quantizer sees (fairseq: ``dropout_features``).
        initialisation: of the two projections to F: ``wav2vec2`` as published, which is torch's own, or ``bert``.
    """

    sides: ClassVar[dict[str, str]] = {"audio": "audio"}

    def __init__(
        self,
        channels: int,
        width: int,
        latent_groups: int = 2,
        latent_vars: int = 320,
        latent_dim: int = 256,
        latent_temp: Sequence[float] = (2.0, 0.5, 0.999995),
        final_dim: int = 256,
        logit_temp: float = 0.1,
        diversity_weight: float = 0.1,
        feature_penalty: float = 0.0,
        feature_dropout: float = 0.0,
        initialisation: str = "bert",
    ) -> None:
        super().__init__()
        if initialisation not in BEGINNINGS:
            raise InputError(f"initialisation '{initialisation}' is unknown; {choices(initialisation, BEGINNINGS)}")
        if not 0 <= feature_dropout < 1:
            raise InputError(f"feature_dropout={feature_dropout} is not a share: 0 <= feature_dropout < 1")
        self.logit_temp = logit_temp
        self.diversity_weight = diversity_weight
        self.feature_penalty = feature_penalty
        self.feature_dropout = feature_dropout
        self.project_hid = nn.Linear(width, final_dim)
        self.project_q = nn.Linear(latent_dim, final_dim)
        if initialisation == "bert":
            self.apply(initialise)
        self.quantizer = GumbelQuantizer(channels, latent_groups, latent_vars, latent_dim, latent_temp)

    def accept(self, encoders: Encoders) -> str | None:
        """Why the encoder does not fit, None if it does."""
        if not isinstance(encoders["audio"], AudioEncoder):
            kind = type(encoders["audio"]).__name__
            return f"wav2vec 2.0 masks frames inside the encoder, which takes an AudioEncoder; this one is a {kind}"
        return None

    def count(self, batch: Batch) -> int:
        """M."""
        return len(batch["audio"]["masked"])

    def statistics(self, encoders: Encoders, batch: Batch) -> Sums:
        """``probs`` (G, V), the codes' probabilities summed over the masked frames, and ``frames``, T."""
        inputs = batch["audio"]
        sums = {"frames": inputs["wave"].new_full((), inputs["layout"].total, dtype=torch.float64)}
        if self.diversity_weight:
            sums["probs"] = _probs(self._logits(_audio(encoders).features(inputs), inputs["masked"]))
        return sums

    def forward(self, encoders: Encoders, batch: Batch, step: Step, totals: Sums) -> tuple[Tensor, Sums]:
        """Eq. 2 summed over the masked frames."""
        inputs, encoder = batch["audio"], _audio(encoders)
        layout, masked, masks = inputs["layout"], inputs["masked"], inputs["masks"]
        frames = encoder.features(inputs)
        logits = self._logits(frames, masked)
        hidden = self.project_hid(encoder.contextualise(frames, inputs).tokens[masked])
        seeds = fold(inputs["noise"][masks.sequence], layout.position[masked])
        temperature = self.quantizer.temperature(step.number)
        targets, codes = self.quantizer(logits, temperature, seeds)
        numbers = self.quantizer.numbers(codes)
        quantised = self.project_q(targets.to(self.project_q.weight.dtype))  # the choice is made in float32 at least
        loss, sums = contrast(hidden, quantised, numbers, inputs["negatives"], masks, self.logit_temp)
        sums |= self._usage(logits, frames) | {"contrastive": loss.detach().double()}
        if self.training:
            sums["temperature"] = loss.new_full((), temperature * masks.total, dtype=torch.float64)
        if self.diversity_weight:
            loss = loss + self._diversity(logits, totals, masks.total).to(loss.dtype)
        if self.feature_penalty:
            share = (totals["count"] / totals.get("frames", sums["frames"])).to(loss.dtype)
            loss = loss + self.feature_penalty * share * full(frames.raw).square().mean(1).sum()
        return loss, sums

    def _logits(self, frames: Frames, masked: Tensor) -> Tensor:
        """(M, G, V). Before anything else of a micro-batch draws, so that :meth:`statistics` drops what it drops."""
        x = frames.normed[masked]
        if self.feature_dropout:
            x = F.dropout(x, self.feature_dropout, self.training)
        return self.quantizer.logits(x)

    @torch.no_grad()
    def code_counts(self, encoders: Encoders, inputs: Batch) -> Tensor:
        """(G, V) float64: how often each code is the likeliest, over all frames of recordings, nothing masked."""
        return _counts(self.quantizer.logits(_audio(encoders).features(inputs).normed))

    def _usage(self, logits: Tensor, frames: Frames) -> Sums:
        """What of a batch's codes and features :meth:`summary` needs."""
        with torch.no_grad():
            codes = _counts(logits)
            return {
                "codes": codes,
                "probs": _probs(logits),
                "frames": codes.new_full((), len(frames.raw)),
                "energy": full(frames.raw).square().mean(1).sum(dtype=torch.float64),
            }

    def _diversity(self, logits: Tensor, totals: Sums, terms: int) -> Tensor:
        """The diversity loss times the number of terms.

        Its gradient is that of the whole global batch's loss with respect to this batch's share of the average; its
        value is the share of this batch's ``terms``, so that values sum up to the loss as well.
        """
        own = _probs(logits)
        whole = own + (totals["probs"] - own).detach() if "probs" in totals else own
        loss = self.diversity_weight * _unused(whole / totals["count"])
        return terms * loss.detach() + totals["count"] * (loss - loss.detach())

    def summary(self, sums: Sums) -> dict[str, Tensor]:
        """Loss and its parts a masked frame, accuracy against the negatives, and how many codes are in use."""
        count = sums["count"]
        parts = {
            "contrastive_loss": sums["contrastive"] / count,
            "diversity_loss": _unused(sums["probs"] / count),
        }
        loss = parts["contrastive_loss"] + self.diversity_weight * parts["diversity_loss"]
        if self.feature_penalty:
            parts["feature_energy"] = sums["energy"] / sums["frames"]
            loss = loss + self.feature_penalty * parts["feature_energy"]
        if "temperature" in sums:
            parts["temperature"] = sums["temperature"] / count
        parts["contrastive_accuracy"] = sums["correct"] / count
        parts["code_perplexity"] = perplexity(sums["codes"] / count)
        parts["prob_perplexity"] = perplexity(sums["probs"] / count)
        return {"loss": loss} | parts

    def chance(self, sums: Sums) -> dict[str, float]:
        """Guessing among the negatives unlike the target, and a code book of which one code is used.

        Of the accuracy negatives of the same codes are one, as they are told apart from the target together.
        """
        return {
            "contrastive_loss": float(sums["surprise"] / sums["count"]),
            "contrastive_accuracy": float(sums["guess"] / sums["count"]),
            "code_perplexity": float(self.quantizer.groups),
        }


def contrast(
    hidden: Tensor, targets: Tensor, numbers: Tensor, negatives: Tensor, masks: Layout, temperature: float
) -> tuple[Tensor, Sums]:
    """Eq. 3 summed over M masked frames, with sums of its scores.

    A negative with the same codes as the target is left out (fairseq). A frame with none left adds no loss and does not
    count as correct, so that a collapsed code book does not look like a solved task.

    Args:
        hidden: (M, F), predictions.
        targets: (M, F).
        numbers: (M,) int64, alike where two targets are.
        negatives: (M, K) int64 in 0..M-1, of the same clip.
        masks: how the M frames divide into clips.
        temperature: divides the similarities.
    """
    longest, place = max(masks.lengths), (masks.sequence, masks.position)

    def spread(x: Tensor) -> Tensor:
        return x.new_zeros(len(masks), longest, *x.shape[1:]).index_put(place, x)

    with torch.autocast(hidden.device.type, enabled=False):
        hidden, targets = (spread(F.normalize(full(x), dim=-1)) for x in (hidden, targets))
        similar = torch.bmm(hidden, targets.transpose(1, 2))[place] / temperature
    # How often each frame of the clip is a negative, (M, longest). All sums below run over these, which needs neither
    # the K negatives' vectors nor, backwards, sums in an order that a GPU would leave to chance.
    local = negatives - masks.offsets[masks.sequence].unsqueeze(1)
    times = torch.zeros_like(similar).scatter_add_(1, local, similar.new_ones(()).expand_as(local))
    codes = spread(numbers)
    times.masked_fill_(codes[masks.sequence] == numbers.unsqueeze(1), 0)
    usable = times.sum(1)
    own = masks.position.unsqueeze(1)
    positive = similar.gather(1, own).squeeze(1)
    loss = (similar + times.scatter(1, own, 1).log()).logsumexp(1) - positive
    with torch.no_grad():
        rival = similar.masked_fill(times == 0, -math.inf).amax(1)
        # Frames of the same codes have one target, so that they are one rival, however often they are drawn.
        first = (codes.unsqueeze(2) == codes.unsqueeze(1)).byte().argmax(2)
        rivals = (torch.zeros_like(times).scatter_add_(1, first[masks.sequence], times) > 0).sum(1, dtype=times.dtype)
        sums = {
            "correct": ((positive > rival) & (usable > 0)).sum().double(),
            "guess": torch.where(rivals > 0, 1 / (1 + rivals), 0).sum(dtype=torch.float64),
            "surprise": torch.log1p(usable).sum(dtype=torch.float64),
        }
    return loss.sum(), sums


def _counts(logits: Tensor) -> Tensor:
    """(M, G, V) -> (G, V) float64: how often each code is the likeliest of its group."""
    best = logits.argmax(-1) + torch.arange(0, logits[0].numel(), logits.shape[2], device=logits.device)
    ones = torch.ones(best.numel(), dtype=torch.float64, device=logits.device)
    return ones.new_zeros(logits[0].numel()).index_add_(0, best.flatten(), ones).view(logits.shape[1:])


def _probs(logits: Tensor) -> Tensor:
    """(M, G, V) -> (G, V) float64: softmax summed over frames."""
    return logits.softmax(-1).sum(0, dtype=torch.float64)


def _unused(shares: Tensor) -> Tensor:
    """Eq. 4 as fairseq computes it: the share of codes that is not in use."""
    return 1 - perplexity(shares) / shares.numel()


def _audio(encoders: Encoders) -> AudioEncoder:
    encoder = encoders["audio"]
    if not isinstance(encoder, AudioEncoder):
        raise InputError(f"wav2vec 2.0 needs an AudioEncoder, got {type(encoder).__name__}")
    return encoder

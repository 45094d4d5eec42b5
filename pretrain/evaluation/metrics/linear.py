"""A linear classifier on features that stay as they are. N rows, D features, C classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

STRENGTHS = tuple(10.0**power for power in range(-5, 4))
"""C of the regularisation that are tried, strongest first."""
EXACT, ROUGH = 1e-6, 1e-4
"""Largest gradient of the mean loss at which a fit is done; the latter is enough to choose among strengths."""
_ITERATIONS = 1000


@dataclass(frozen=True)
class Scale:
    """What features are standardised by: mean and standard deviation of each, (D,)."""

    mean: np.ndarray
    spread: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """(N, D) -> float64 rows in these units."""
        return (np.asarray(rows, np.float64) - self.mean) / self.spread


def scale_of(rows: np.ndarray) -> Scale:
    """The units in which ``rows`` (N, D) have mean 0 and variance 1; a feature that never changes becomes 0."""
    wide = np.asarray(rows, np.float64)
    spread = wide.std(0)
    return Scale(wide.mean(0), np.where(spread > 1e-12 * np.abs(wide).max(initial=1.0), spread, 1.0))


@dataclass(frozen=True)
class Linear:
    """A fitted classifier: ``weight`` (C, D) and ``bias`` (C,)."""

    weight: np.ndarray
    bias: np.ndarray

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """(N, D) -> (N, C)."""
        found: np.ndarray = rows @ self.weight.T + self.bias
        return found

    def classes(self, rows: np.ndarray) -> np.ndarray:
        """(N, D) -> (N,) numbers of classes."""
        found: np.ndarray = self.scores(rows).argmax(1)
        return found


def fit(
    rows: np.ndarray,
    labels: np.ndarray,
    count: int,
    strength: float,
    begin: Linear | None = None,
    tolerance: float = EXACT,
) -> Linear:
    """Multinomial logistic regression: ``strength`` * summed cross-entropy + |weight|^2 / 2, as scikit-learn has it.

    The bias is not regularised. The problem is convex; L-BFGS finds its minimum from wherever it begins.

    Args:
        rows: (N, D) float64, standardised.
        labels: (N,) numbers of classes.
        count: C.
        strength: C of the regularisation; the smaller, the stronger it is.
        begin: another solution to begin with, None: zeros.
        tolerance: how exactly; see :data:`EXACT`.
    """
    x, y = torch.from_numpy(np.ascontiguousarray(rows)), torch.from_numpy(np.asarray(labels, np.int64))
    first = begin or Linear(np.zeros((count, rows.shape[1])), np.zeros(count))
    weight, bias = (torch.from_numpy(part.copy()).requires_grad_() for part in (first.weight, first.bias))
    search = torch.optim.LBFGS(
        [weight, bias], 1.0, _ITERATIONS, tolerance_grad=tolerance, tolerance_change=1e-12, history_size=20,
        line_search_fn="strong_wolfe",
    )  # fmt: skip
    penalty = 0.5 / (strength * len(rows))  # divided by all that stands before the mean: gradients of one size

    def closure() -> float:
        search.zero_grad()
        loss = F.cross_entropy(x @ weight.T + bias, y) + penalty * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    with torch.enable_grad():
        search.step(closure)
    return Linear(weight.detach().numpy(), bias.detach().numpy())


def split(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """(N,) bool: which rows are set aside: ``share`` of each class, at least one, none of a class with one row."""
    draw = np.random.default_rng(seed)
    aside = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        places = draw.permutation(np.flatnonzero(labels == label))
        aside[places[: max(1, round(share * len(places))) if len(places) > 1 else 0]] = True
    return aside


def probe(
    train: np.ndarray,
    labels: np.ndarray,
    count: int,
    strengths: Sequence[float] = STRENGTHS,
    share: float = 0.2,
    seed: int = 0,
) -> tuple[Linear, Scale, float]:
    """A linear probe: standardised features, the strength that does best on rows set aside, fitted again on all rows.

    Args:
        train: (N, D).
        labels: (N,) numbers of classes.
        count: C.
        strengths: those tried, strongest regularisation first; of equally good ones the first is taken. Where rows of
            two classes cannot be set aside, the one nearest to 1 is.
        share: of the rows that are set aside to choose by.
        seed: of that split.

    Returns:
        The classifier, the scale of its features, and the strength that was chosen.
    """
    aside = split(labels, share, seed)
    # Rows of one class alone are all right with the strongest, which says that class of everything.
    best = min(strengths, key=lambda strength: abs(np.log(strength)))
    if len(np.unique(labels[aside])) > 1 and len(strengths) > 1:
        scale = scale_of(train[~aside])
        rows, held = scale(train[~aside]), scale(train[aside])
        model, top = None, -1.0
        for strength in strengths:
            model = fit(rows, labels[~aside], count, strength, model, ROUGH)
            right = float((model.classes(held) == labels[aside]).mean())
            if right > top:
                best, top = strength, right
    scale = scale_of(train)
    return fit(scale(train), labels, count, best), scale, best


def few(labels: np.ndarray, k: int, seed: int) -> np.ndarray:
    """(C * k,) rows: k of each class, drawn by ``seed``; all of a class with fewer.

    What is drawn for a smaller k is part of what is drawn for a larger one, so that curves compare like with like.
    """
    draw = np.random.default_rng(seed)
    found = [draw.permutation(np.flatnonzero(labels == label))[:k] for label in np.unique(labels)]
    return np.sort(np.concatenate(found))

"""Classifiers on frozen features of one encoder, taught on one source and measured on another."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.errors import InputError
from pretrain.embedding.extract import OWN
from pretrain.evaluation.features import Embedded
from pretrain.evaluation.kinds.evaluator import EmbeddingEvaluator
from pretrain.evaluation.metrics.linear import STRENGTHS, few, fit, probe, scale_of
from pretrain.evaluation.metrics.neighbours import neighbours
from pretrain.evaluation.scores import Scores
from pretrain.model import Model

log = logging.getLogger("pretrain")
_NAMED = 3


@dataclass(eq=False)
class Classification(EmbeddingEvaluator):
    """Base: vectors and classes of both sources; a subclass implements :meth:`predict`.

    Args:
        encoder: its name; None: the run's only one.
        train, test: sources with classes.
        label, embed_dim, pool, samples, every_n_steps: see :class:`EmbeddingEvaluator`.
        prepare: arguments of what prepares inputs that are to be others (``member``, ``field``).
    """

    encoder: str | None = None
    train: Any = None
    test: Any = None
    label: str = "cls"
    embed_dim: int | None = None
    pool: str = OWN
    samples: int | None = 10_000
    every_n_steps: int | None = None
    prepare: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """A subclass checks its own settings here, and calls this."""
        sources, changed = {"train": self.train, "test": self.test}, {"x": self.prepare} if self.prepare else None
        given = (self.label, self.embed_dim, self.pool, self.samples, self.every_n_steps, changed)
        super().__init__({"x": self.encoder}, sources, *given)
        self._warned = False

    def measure(self, embedded: Mapping[str, Embedded], model: Model) -> Scores:
        """See :meth:`scores`.

        Raises:
            InputError: the samples to learn from are all of one class.
        """
        train, test = embedded["train"], embedded["test"]
        names = sorted(set(train.labels))
        if len(names) < 2:
            raise InputError(f"evaluators.{self.name}: all samples of train have the class '{names[0]}'")
        numbers = {name: number for number, name in enumerate(names)}
        self._warn([one for one in test.labels if one not in numbers], len(test))
        # A class that was never taught has a number that nothing predicts.
        taught, asked = (np.array([numbers.get(one, -1) for one in part.labels]) for part in (train, test))
        return self.scores(train.rows["x"], taught, test.rows["x"], asked, len(names))

    def _warn(self, unknown: Sequence[str], count: int) -> None:
        """Says once which of the ``count`` samples of test have a class that train lacks."""
        if unknown and not self._warned:
            self._warned = True
            names = sorted(set(unknown))
            few = ", ".join(f"'{name[:40]}'" for name in names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
            said = "%d of %d samples of test have a class that those of train lack (%s); they count as wrong"
            log.warning(f"evaluators.%s: {said}", self.name, len(unknown), count, few)

    def scores(self, train: np.ndarray, taught: np.ndarray, test: np.ndarray, asked: np.ndarray, count: int) -> Scores:
        """``accuracy``, beside it the share of the largest class, which is right most often without looking."""
        right = self.predict(train, taught, test, count) == asked
        most = int(np.bincount(taught, minlength=count).argmax())
        return {"accuracy": {"value": float(right.mean()), "chance": float((asked == most).mean())}}

    def predict(self, train: np.ndarray, taught: np.ndarray, test: np.ndarray, count: int) -> np.ndarray:
        """(N, D) with (N,) classes, (M, D) -> (M,) classes."""
        raise TypeError(f"{type(self).__name__} lacks predict()")


@dataclass(eq=False)
class LinearProbe(Classification):
    """Logistic regression on standardised features, regularised as suits rows set aside; see :func:`probe`.

    Args:
        strengths: C of the regularisation that are tried.
        encoder, train, test, label, embed_dim, pool, samples, every_n_steps, prepare: see
            :class:`Classification`.
    """

    strengths: Sequence[float] = STRENGTHS

    def __post_init__(self) -> None:
        """See :class:`Classification`."""
        super().__post_init__()
        if not self.strengths or min(self.strengths) <= 0:
            raise InputError(f"strengths={list(self.strengths)} must be numbers above 0, at least one")
        self.strengths = sorted(self.strengths)

    def predict(self, train: np.ndarray, taught: np.ndarray, test: np.ndarray, count: int) -> np.ndarray:
        """See :class:`Classification`."""
        model, scale, _ = probe(train, taught, count, self.strengths)
        return model.classes(scale(test))


@dataclass(eq=False)
class Neighbours(Classification):
    """The k nearest training samples vote; see :func:`pretrain.evaluation.metrics.neighbours.neighbours`.

    Args:
        k: how many.
        temperature: of their votes.
        encoder, train, test, label, embed_dim, pool, samples, every_n_steps, prepare: see
            :class:`Classification`.
    """

    k: int = 20
    temperature: float = 0.07

    def __post_init__(self) -> None:
        """See :class:`Classification`."""
        super().__post_init__()
        if self.k < 1 or self.temperature <= 0:
            raise InputError(f"k={self.k} must be 1 or more, temperature={self.temperature} above 0")

    def predict(self, train: np.ndarray, taught: np.ndarray, test: np.ndarray, count: int) -> np.ndarray:
        """See :class:`Classification`."""
        return neighbours(train, taught, test, self.k, self.temperature)


@dataclass(eq=False)
class FewShot(Classification):
    """A linear classifier taught by k samples a class, for several k; the mean over draws of these samples.

    Features are standardised by all of ``train``, whose classes beyond the k are not looked at.

    Args:
        ks: how many samples a class.
        draws: how often; the same samples at every measurement.
        strength: C of the regularisation: there is nothing to choose it by.
        encoder, train, test, label, embed_dim, pool, samples, every_n_steps, prepare: see
            :class:`Classification`.
    """

    ks: Sequence[int] = (1, 4, 8, 16)
    draws: int = 5
    strength: float = 1.0

    def __post_init__(self) -> None:
        """See :class:`Classification`."""
        super().__post_init__()
        if not self.ks or min(self.ks) < 1 or self.draws < 1 or self.strength <= 0:
            given = f"ks={list(self.ks)} and draws={self.draws} must be 1 or more, strength={self.strength} above 0"
            raise InputError(given)
        self.ks = sorted(self.ks)

    def scores(self, train: np.ndarray, taught: np.ndarray, test: np.ndarray, asked: np.ndarray, count: int) -> Scores:
        """``accuracy@K`` for each k; of as many of each class nothing is learned about which is most frequent."""
        scale = scale_of(train)
        rows, questions = scale(train), scale(test)
        found: Scores = {}
        for k in self.ks:
            right = []
            for draw in range(self.draws):
                shots = few(taught, k, draw)
                model = fit(rows[shots], taught[shots], count, self.strength)
                right.append(float((model.classes(questions) == asked).mean()))
            found[f"accuracy@{k}"] = {"value": float(np.mean(right)), "chance": 1 / count}
        return found

"""What evaluators that a config names have in common: their data, their cadence, when they are left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data.errors import InputError, choices
from data.loading.loader import Rejected
from pretrain.embedding.extract import OWN, POOLINGS
from pretrain.evaluation.features import Embedded, Features, features_of
from pretrain.evaluation.scores import Scores
from pretrain.evaluation.setting import Setting
from pretrain.model import Model


class EmbeddingEvaluator:
    """Measures embeddings of held-out sources; a subclass implements :meth:`measure`.

    Args:
        encoders: side -> name of an encoder; None: the run's only one.
        sources: name -> pattern or patterns of one source; None: there is none, and the evaluator is left out.
        label: where classes are, see :class:`pretrain.evaluation.labels.Label`; None: they are not needed.
        embed_dim: features of the joint space; None: the encoders' own features.
        pool: see :class:`pretrain.embedding.extract.Extractor`.
        samples: of each source, at most; None: as ``evaluate.samples`` says.
        every_n_steps: how often it is measured in a run; None: as ``evaluate.every_n_steps`` says. Always at the end.
        prepare: side -> arguments of what prepares its inputs that are to be others (``member``, ``field``).
        views: whether what is measured is also to be looked at; see :class:`pretrain.evaluation.features.Features`.

    Attributes:
        name: its key under ``evaluators``, once it is open.
    """

    def __init__(
        self,
        encoders: Mapping[str, str | None],
        sources: Mapping[str, Any],
        label: str | None = None,
        embed_dim: int | None = None,
        pool: str = OWN,
        samples: int | None = None,
        every_n_steps: int | None = None,
        prepare: Mapping[str, Mapping[str, Any]] | None = None,
        views: bool = False,
    ) -> None:
        if pool not in POOLINGS:
            raise InputError(f"pool '{pool}' is unknown; {choices(pool, POOLINGS)}")
        for name, value in (("samples", samples), ("every_n_steps", every_n_steps), ("embed_dim", embed_dim)):
            if value is not None and value < 1:
                raise InputError(f"{name}={value} is not 1 or more, or null")
        self.encoders, self.sources = dict(encoders), dict(sources)
        self.label, self.embed_dim, self.pool = label, embed_dim, pool
        self.samples, self.every_n_steps = samples, every_n_steps
        for side in prepare or {}:
            if side not in encoders:
                raise InputError(f"prepare names the side '{side}'; {choices(side, encoders)}")
        self.prepare, self.views = prepare or {}, views
        self.name = ""
        self.features: dict[str, Features] = {}

    @property
    def rejected(self) -> list[Rejected]:
        """Held-out samples that are left out."""
        return [one for features in self.features.values() for one in features.rejected]

    def missing(self, model: Model) -> str | None:
        """Why this run cannot be measured so, None if it can."""
        for source, pattern in self.sources.items():
            if pattern is None:
                return f"it has no {source}"
        for side, name in self.encoders.items():
            if name is None:
                if len(model.encoders) > 1:
                    return f"the run has several encoders ({', '.join(model.encoders)}); give encoder"
                (self.encoders[side],) = model.encoders
            elif name not in model.encoders:
                return f"encoder '{name}' is not part of this run"
        for name in self.encoders.values():
            projections: Any = model.encoders[str(name)].projections
            if self.embed_dim is not None and str(self.embed_dim) not in projections:
                return f"no task gives encoder '{name}' a projection to {self.embed_dim} features"
        return None

    def open(self, name: str, setting: Setting) -> None:
        """Finds its data.

        Raises:
            InputError: a source matches nothing or lacks a member.
        """
        self.name = name
        for source, pattern in self.sources.items():
            self.features[source] = features_of(
                f"{name}.{source}", pattern, self.sides(source), setting, self.label, self.embed_dim, self.pool,
                self.samples, self.prepare, self.views,
            )  # fmt: skip

    def sides(self, source: str) -> dict[str, str]:
        """Side -> encoder of those that are embedded of ``source``; all, unless a subclass knows better."""
        return {side: str(name) for side, name in self.encoders.items()}

    def forget(self) -> None:
        """The model is going to change."""
        for features in self.features.values():
            features.forget()

    def __call__(self, model: Model) -> Scores:
        """``NAME/METRIC`` -> value and chance; nothing where no sample can be used."""
        embedded = {source: features(model) for source, features in self.features.items()}
        if not all(map(len, embedded.values())):
            return {}
        return {f"{self.name}/{metric}": score for metric, score in self.measure(embedded, model).items()}

    def measure(self, embedded: Mapping[str, Embedded], model: Model) -> Scores:
        """Metric -> value and chance.

        Args:
            embedded: source -> what came out of it.
            model: in evaluation mode, for what is to be embedded beside that.
        """
        raise TypeError(f"{type(self).__name__} lacks measure()")

"""What evaluators that a config names have in common: their data, their cadence, when they are left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data.errors import InputError, choices
from data.loading.loader import Rejected
from data.stream import Stream
from pretrain.embedding.extract import OWN, POOLINGS
from pretrain.evaluation.features import Embedded, Features, features_of
from pretrain.evaluation.passes import Passes
from pretrain.evaluation.scores import Scores, Table
from pretrain.evaluation.setting import Setting
from pretrain.model import Model


class SourceEvaluator:
    """Measures a model by held-out sources; a subclass implements :meth:`open` and :meth:`scores_of`.

    Args:
        sources: name -> pattern or patterns of one source; None: there is none, and the evaluator is left out.
        samples: of each source, at most; None: as ``evaluate.samples`` says.
        every_n_steps: how often it is measured in a run; None: as ``evaluate.every_n_steps`` says. Always at the end.

    Attributes:
        name: its key under ``evaluators``, once it is open.
        passes: source -> what reads it, once it is open.
        tables: what the last measurement says beyond numbers.
    """

    gives = True
    """Whether it gives metrics, whose names are known once it has measured."""

    def __init__(
        self, sources: Mapping[str, Any], samples: int | None = None, every_n_steps: int | None = None
    ) -> None:
        for name, value in (("samples", samples), ("every_n_steps", every_n_steps)):
            check_count(name, value)
        self.sources, self.samples, self.every_n_steps = dict(sources), samples, every_n_steps
        self.name = ""
        self.passes: dict[str, Passes] = {}
        self.tables: list[Table] = []

    @property
    def streams(self) -> list[Stream]:
        """What it reads."""
        return [passes.stream for passes in self.passes.values()]

    @property
    def rejected(self) -> list[Rejected]:
        """Held-out samples that are left out."""
        return [one for passes in self.passes.values() for one in passes.rejected]

    def missing(self, model: Model) -> str | None:
        """Why this run cannot be measured so, None if it can."""
        for source, pattern in self.sources.items():
            if pattern is None:
                return f"it has no {source}"
        return None

    def open(self, name: str, setting: Setting) -> None:
        """Finds its data; called once, after :meth:`missing` found nothing.

        Raises:
            InputError: a source matches nothing or lacks a member.
        """
        raise TypeError(f"{type(self).__name__} lacks open()")

    def forget(self) -> None:
        """The model is going to change."""

    def __call__(self, model: Model) -> Scores:
        """``NAME/METRIC`` -> value and chance; nothing where no sample can be used."""
        return {f"{self.name}/{metric}": score for metric, score in self.scores_of(model).items()}

    def scores_of(self, model: Model) -> Scores:
        """Metric -> value and chance, of a model in evaluation mode."""
        raise TypeError(f"{type(self).__name__} lacks scores_of()")


class EmbeddingEvaluator(SourceEvaluator):
    """Measures embeddings of held-out sources; a subclass implements :meth:`measure`.

    Args:
        encoders: side -> name of an encoder; None: the run's only one.
        sources, samples, every_n_steps: see :class:`SourceEvaluator`.
        label: where classes are, see :class:`data.label.Label`; None: they are not needed.
        embed_dim: features of the joint space; None: the encoders' own features.
        pool: see :class:`pretrain.embedding.extract.Extractor`.
        prepare: side -> arguments of what prepares its inputs that are to be others (``member``, ``field``).
        views: whether what is measured is also to be looked at; see :class:`pretrain.evaluation.labels.Labelled`.
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
        super().__init__(sources, samples, every_n_steps)
        if pool not in POOLINGS:
            raise InputError(f"pool '{pool}' is unknown; {choices(pool, POOLINGS)}")
        check_count("embed_dim", embed_dim)
        self.encoders = dict(encoders)
        self.label, self.embed_dim, self.pool = label, embed_dim, pool
        for side in prepare or {}:
            if side not in encoders:
                raise InputError(f"prepare names the side '{side}'; {choices(side, encoders)}")
        self.changed, self.views = prepare or {}, views
        self.features: dict[str, Features] = {}

    def missing(self, model: Model) -> str | None:
        """See :class:`SourceEvaluator`."""
        reason = super().missing(model)
        if reason:
            return reason
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
        """See :class:`SourceEvaluator`."""
        self.name = name
        for source, pattern in self.sources.items():
            self.features[source] = self.passes[source] = features_of(
                f"{name}.{source}", pattern, self.sides(source), setting, self.label, self.embed_dim, self.pool,
                self.samples, self.changed, self.views,
            )  # fmt: skip

    def sides(self, source: str) -> dict[str, str]:
        """Side -> encoder of those that are embedded of ``source``; all, unless a subclass knows better."""
        return {side: str(name) for side, name in self.encoders.items()}

    def forget(self) -> None:
        """See :class:`SourceEvaluator`."""
        for features in self.features.values():
            features.forget()

    def scores_of(self, model: Model) -> Scores:
        """Those of :meth:`measure`; nothing where a source has no sample that can be used."""
        embedded = {source: features(model) for source, features in self.features.items()}
        return self.measure(embedded, model) if all(map(len, embedded.values())) else {}

    def measure(self, embedded: Mapping[str, Embedded], model: Model) -> Scores:
        """Metric -> value and chance.

        Args:
            embedded: source -> what came out of it.
            model: in evaluation mode, for what is to be embedded beside that.
        """
        raise TypeError(f"{type(self).__name__} lacks measure()")


def check_count(name: str, value: int | None) -> None:
    """Refuses a number below 1.

    Raises:
        InputError: naming it.
    """
    if value is not None and value < 1:
        raise InputError(f"{name}={value} is not 1 or more, or null")

"""What is searched for, as vectors: texts, files, keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import InputError, SampleError, choices
from data.sample import Sample
from data.store.store import Store
from pretrain.embedding.extract import NONE, Extractor
from pretrain.embedding.table import Table
from pretrain.inputs import loose_node
from pretrain.search.samples import Originals
from pretrain.trained import Trained, run_place

TEXT = "txt"


@dataclass
class Query:
    """Something searched for.

    Attributes:
        title: how it is named.
        vector: (D,) float32.
        sample: what it is, to be shown; None for what is only known by its vector.
    """

    title: str
    vector: np.ndarray
    sample: Sample | None


class Asker:
    """Makes vectors that can be compared with those of a table, by the checkpoint that made the table.

    Args:
        table: what is searched.
        store: where shards are read from.
        run: where the run lies now; None: where it lay.
        encoder: for queries; None: the one of the run that takes what is asked with.
        roots: packages that the user trusts.
        changed: arguments of what prepares a query that are to be others than those of the table, or of the run.
    """

    def __init__(
        self,
        table: Table,
        store: Store,
        run: str | None = None,
        encoder: str | None = None,
        roots: tuple[str, ...] = (),
        changed: Mapping[str, Any] | None = None,
    ) -> None:
        self.table, self.store, self.named, self.changed = table, store, encoder, dict(changed or {})
        self._run, self._roots = run, roots
        self._extractor = cache(self._make)

    @cached_property
    def trained(self) -> Trained:
        """The checkpoint of the table.

        Raises:
            InputError: it is gone, or is another one now.
        """
        recipe = self.table.recipe
        place = run_place(self._run or recipe.run, recipe.step)
        trained = Trained(place, recipe.averaged, self._roots)
        if trained.digest != recipe.checkpoint:
            raise InputError(
                f"checkpoint '{place}' is not the one that '{self.table.folder}' was made with; give --run"
            )
        return trained

    def _make(self, modality: str) -> tuple[Trained, str, Extractor]:
        recipe, trained = self.table.recipe, self.trained
        fitting = []
        for name in [self.named] if self.named else trained.encoders:
            extractor = self._fitting(trained, trained.chosen(name), modality)
            fitting += [(trained, name, extractor)] if extractor is not None else []
        if len(fitting) == 1:
            return fitting[0]
        space = f"the joint space of {recipe.projection}" if recipe.projection else f"the space of '{recipe.encoder}'"
        if not fitting:
            raise InputError(f"no encoder of '{trained.place}' takes {modality} into {space}")
        names = ", ".join(name for _, name, _ in fitting)
        raise InputError(f"several encoders take {modality} into {space}; give --encoder, one of: {names}")

    def _fitting(self, trained: Trained, name: str, modality: str) -> Extractor | None:
        """What makes vectors of the table's kind by encoder ``name``, None where it cannot."""
        recipe, encoder = self.table.recipe, trained.encoder(name)
        if encoder.modality != modality:
            return None
        if name == recipe.encoder:
            return Extractor(encoder, recipe.pool, str(recipe.projection or NONE), recipe.layer)
        if recipe.projection is None or str(recipe.projection) not in encoder.projections:
            return None
        return Extractor(encoder, projection=str(recipe.projection))

    def text(self, text: str) -> Query:
        """A text.

        Raises:
            InputError: no encoder takes texts, or this one cannot be used.
        """
        sample = Sample("", "query", {TEXT: text.encode("utf-8", "surrogateescape")})
        found = self._embedded("text", f'"{text}"', sample)
        found.sample = None  # its title shows it
        return found

    def file(self, path: Path) -> Query:
        """A picture, a recording or a text file.

        Raises:
            InputError: it cannot be read, or no encoder takes it.
        """
        extension = path.suffix.lower().removeprefix(".")
        try:
            content = path.expanduser().read_bytes()
        except OSError as error:
            raise InputError(f"--file '{path}' cannot be read: {error.strerror}") from None
        trained = self.trained
        for name in trained.encoders:
            prepare = trained.prepare(name, loose_node(self._node(trained, name)))
            if any(extension in wanted for wanted in prepare.needs.values()):
                return self._embedded(prepare.modality, path.name, Sample("", path.name, {extension: content}))
        raise InputError(f"--file '{path}': no encoder of '{trained.place}' takes files of this kind")

    def key(self, key: str, of: Table) -> Query:
        """A sample of a table, of this one or of another one in the same space.

        Raises:
            InputError: there is no such key, or vectors of ``of`` say something else.
        """
        if of.recipe.checkpoint != self.table.recipe.checkpoint or not _comparable(of, self.table):
            raise InputError(f"'{of.folder}' and '{self.table.folder}' are no vectors of one space of one checkpoint")
        vector, row = of.of_key(key)
        return Query(key, np.asarray(vector, np.float32), Originals(of, self.store).sample(row["number"]))

    def _embedded(self, modality: str, title: str, sample: Sample) -> Query:
        trained, name, extractor = self._extractor(modality)
        node = self._node(trained, name)
        for key in self.changed:
            if key not in node:
                raise InputError(f"--prepare {key}: what prepares a query takes no such argument; {choices(key, node)}")
        prepare = trained.prepare(name, loose_node(node))
        try:
            item = prepare(sample, np.random.default_rng(0), False)
        except SampleError as error:
            raise InputError(f"{title} cannot be searched for: {error}") from None
        return Query(title, extractor(prepare.collate([item]))[0].numpy(), sample)

    def _node(self, trained: Trained, name: str) -> dict[str, Any]:
        recipe = self.table.recipe
        node = recipe.prepare if name == recipe.encoder else trained.prepare_node(name, recipe.projection is not None)
        return {**node, **{key: value for key, value in self.changed.items() if key in node}}


def _comparable(a: Table, b: Table) -> bool:
    joint = a.recipe.projection is not None and a.recipe.projection == b.recipe.projection
    ways = [(t.recipe.encoder, t.recipe.pool, t.recipe.layer, t.recipe.projection) for t in (a, b)]
    return a.recipe.averaged == b.recipe.averaged and (joint or ways[0] == ways[1])

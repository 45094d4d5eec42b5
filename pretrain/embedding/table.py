"""A finished folder of embeddings, read part by part."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from data.errors import InputError, choices
from pretrain.embedding import parts
from pretrain.embedding.job import COMPLETE
from pretrain.embedding.recipe import Recipe, read


class Table:
    """Rows of a folder that ``pretrain embed`` made; those without a vector are not counted.

    Args:
        folder: the folder.

    Attributes:
        folder: the folder.
        recipe: what it was made of.

    Raises:
        InputError: it is none, or not complete.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        found = read(self.folder)
        if found is None:
            raise InputError(f"'{folder}' is no folder of embeddings (pretrain embed makes one)")
        self.recipe: Recipe = found
        if not (self.folder / COMPLETE).is_file():
            there = sum(parts.paths(self.folder, n, found.format)[0].exists() for n in range(found.parts))
            raise InputError(
                f"'{folder}' is not complete: {there} of {found.parts} parts; the command that began it goes on with it"
            )
        self._part = lru_cache(maxsize=4)(self._read)

    def _read(self, number: int) -> tuple[np.ndarray, list[parts.Row]]:
        vectors, rows = parts.read(self.folder, number, self.recipe.format)
        return vectors, [row for row in rows if "left_out" not in row]

    def __len__(self) -> int:
        return int(self._begins[-1])

    @cached_property
    def _begins(self) -> np.ndarray:
        counts = [len(self._part(number)[1]) for number in range(self.recipe.parts)]
        return np.concatenate(([0], np.cumsum(counts)))

    def blocks(self) -> Iterator[np.ndarray]:
        """(n, D) vectors of each part, in order."""
        for number in range(self.recipe.parts):
            yield self._part(number)[0]

    def rows(self) -> Iterator[parts.Row]:
        """``{"number", "key", "shard"}`` of each vector, in order."""
        for number in range(self.recipe.parts):
            yield from self._part(number)[1]

    def row(self, place: int) -> parts.Row:
        """The row of vector ``place``."""
        part = int(np.searchsorted(self._begins, place, side="right")) - 1
        return self._part(part)[1][place - int(self._begins[part])]

    def vectors(self) -> np.ndarray:
        """(N, D): all of them."""
        return np.concatenate(list(self.blocks()))

    def of_key(self, key: str) -> tuple[np.ndarray, parts.Row]:
        """The vector of a sample and its row; the first of the key.

        Raises:
            InputError: there is none.
        """
        keys: list[str] = []
        for number in range(self.recipe.parts):
            vectors, rows = self._part(number)
            for place, row in enumerate(rows):
                if row["key"] == key:
                    return vectors[place], row
            keys += [row["key"] for row in rows[: max(0, 8 - len(keys))]]
        raise InputError(f"key '{key}' is not in '{self.folder}'; {choices(key, keys)}, ...")

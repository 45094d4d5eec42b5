"""The samples behind vectors, read again where they lie, for people to look at."""

from __future__ import annotations

from data.errors import InputError, RunError, SampleError
from data.sample import Sample
from data.store.store import Store
from data.stream import Place
from pretrain.embedding.asked import open_stream
from pretrain.embedding.table import Table


class Originals:
    """Samples of a table's source, by number.

    Args:
        table: the table.
        store: where shards are read from.

    Attributes:
        reason: why they cannot be shown, None if they can.
    """

    def __init__(self, table: Table, store: Store) -> None:
        self.reason: str | None = None
        recipe = table.recipe
        try:
            self._stream = open_stream(recipe.source, recipe.files, recipe.needs, store)
        except (InputError, RunError) as error:
            self.reason = str(error)
            return
        if self._stream.fingerprint() != recipe.fingerprint:
            self.reason = f"the samples of '{table.folder}' are other ones now"

    def sample(self, number: int) -> Sample | None:
        """Sample ``number``, None where it cannot be read any more."""
        if self.reason is not None:
            return None
        try:
            return self._stream.read(Place(0, 0, number))
        except SampleError:
            return None

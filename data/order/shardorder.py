"""The shards of a source in another order each epoch, and which sample stands where in that order."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from data.order.permutation import combine, permute, permute_each
from data.seeds import derive

# So many groups are permuted each epoch in half a millisecond; a source of fewer shards has one shard a group.
_GROUPS = 4096
_TABLES = 1024  # of groups, kept


class ShardOrder:
    """The samples 0..N-1 of S shards as a sequence that takes the shards in another order each epoch.

    Above 4096 shards, a fixed shuffle puts them into 4096 groups; an epoch permutes the groups, and the shards within
    each. So nothing has the cost of all shards after the first 8 bytes a shard, and any epoch is reached at once.

    Args:
        counts: (S,) samples of each shard.
        seed: another seed is another order.
    """

    def __init__(self, counts: np.ndarray, seed: int) -> None:
        counts = np.asarray(counts, dtype=np.int64)
        self.seed = seed
        self.starts = np.concatenate(([0], np.cumsum(counts)))
        self.width = -(-len(counts) // _GROUPS)  # shards a group
        groups = -(-len(counts) // self.width)
        fixed = permute(np.arange(len(counts)), len(counts), derive(seed, "groups")) if self.width > 1 else None
        # (groups, width) shard numbers; the last group may have empty places, which hold no samples.
        padded = np.full(groups * self.width, -1, dtype=np.int32)
        padded[: len(counts)] = np.arange(len(counts)) if fixed is None else fixed
        self._members = padded.reshape(groups, self.width)
        self._sizes = np.where(padded < 0, 0, counts[padded]).reshape(groups, self.width)
        self._totals = self._sizes.sum(1)
        self._epochs: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._tables: OrderedDict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """(group at each place, samples before each place) of an epoch."""
        if epoch not in self._epochs:
            groups = len(self._totals)
            order = permute(np.arange(groups), groups, derive(self.seed, "shards", epoch))
            self._epochs[epoch] = order, np.concatenate(([0], np.cumsum(self._totals[order])))
            if len(self._epochs) > 4:
                self._epochs.popitem(last=False)
        return self._epochs[epoch]

    def _group_tables(self, epoch: int, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(shards in order, samples before each) of each of ``groups``, both (len(groups), width)."""
        missing = np.array([g for g in groups.tolist() if (epoch, g) not in self._tables], dtype=np.int64)
        if len(missing):
            keys = combine(np.full(len(missing), derive(self.seed, "group", epoch), np.uint64), missing)
            places = np.tile(np.arange(self.width), len(missing))
            shuffled = permute_each(places, np.full(len(places), self.width), np.repeat(keys, self.width))
            shuffled = shuffled.reshape(len(missing), self.width)
            members = np.take_along_axis(self._members[missing], shuffled, 1)
            sizes = np.take_along_axis(self._sizes[missing], shuffled, 1)
            before = np.cumsum(sizes, 1) - sizes
            for row, group in enumerate(missing.tolist()):
                self._tables[epoch, group] = members[row], before[row]
        found = [self._tables[epoch, g] for g in groups.tolist()]
        while len(self._tables) > _TABLES:
            self._tables.popitem(last=False)
        return np.stack([members for members, _ in found]), np.stack([before for _, before in found])

    def locate(self, epoch: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(shard number, sample number within the source) at ``places`` of the epoch's sequence, int64."""
        order, prefix = self._epoch(epoch)
        at = np.searchsorted(prefix, places, side="right") - 1
        rest = places - prefix[at]
        if self.width == 1:
            shards = self._members[order[at], 0].astype(np.int64)
            return shards, self.starts[shards] + rest
        groups, row = np.unique(order[at], return_inverse=True)
        members, before = self._group_tables(epoch, groups)
        # The last member that begins at or before the place and has samples; empty ones begin where the next one does.
        column = (before[row] <= rest[:, None]).sum(1) - 1
        shards = members[row, column].astype(np.int64)
        return shards, self.starts[shards] + rest - before[row, column]

    def between(self, epoch: int, begin: int, end: int) -> list[int]:
        """The shards that hold the places ``begin`` to ``end`` (exclusive) of the epoch's sequence, in order."""
        found, place = [], begin
        while place < end:
            shards, numbers = self.locate(epoch, np.array([place]))
            shard = int(shards[0])
            found.append(shard)
            place += int(self.starts[shard + 1] - numbers[0])
        return found

"""Builds the index of a shard from the headers of its tar."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from data.shards.membername import split_name
from data.shards.shardindex import ShardIndex
from data.shards.summary import Summary
from data.shards.tarheader import BLOCK
from data.shards.tarwalk import Entry, Gap, walk

_LINES = 50
_NAMED = 3


def smallest(column: np.ndarray | list[int]) -> np.ndarray:
    """``column`` (no negative numbers) in the smallest unsigned type that holds it."""
    column = np.asarray(column, dtype=np.int64)
    return column.astype(np.min_scalar_type(int(column.max(initial=0))))


def folded(column: np.ndarray, width: int) -> np.ndarray:
    """``column`` once for all samples, where it is the same for every sample of ``width`` members."""
    rows = column.reshape(-1, width) if width else column
    return column[:width].copy() if width and (rows == rows[0]).all() else column


@dataclass
class _Found:
    """What a walk has found so far; samples are numbered as they begin.

    Attributes:
        newest: key -> its newest sample.
        held: the extensions of each sample, as bits.
        again: sample -> its number among those of its key, where it is not the first.
        rows: (sample, start, offset, size, extension) of each member.
        extensions: extension -> its number.
        gaps: the damage, in order.
        beside: sample -> number of the damage that it stands beside.
        torn: those of them that are known to have lost a member.
        awaited: key -> number of the damage, for members that were lost before their sample began.
        names: keys of the samples beside damage.
        links: how many links would have been members, and the first of them.
    """

    newest: dict[str, int] = field(default_factory=dict)
    held: list[int] = field(default_factory=list)
    again: dict[int, int] = field(default_factory=dict)
    rows: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    extensions: dict[str, int] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    beside: dict[int, int] = field(default_factory=dict)
    torn: set[int] = field(default_factory=set)
    awaited: dict[str, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    links: tuple[int, tuple[str, ...]] = (0, ())

    def walk(self, file: int) -> None:
        newest, held, extensions, rows = self.newest, self.held, self.extensions, self.rows
        last, last_key, behind = -1, "", False
        for found in walk(file):
            if not isinstance(found, Entry):
                if isinstance(found, Gap):
                    self._gap(found, last, last_key)
                    behind = True
                elif split_name(found.name)[1]:
                    count, names = self.links
                    self.links = count + 1, (*names, found.name)[:_NAMED]
                continue
            name, start, offset, size = found
            key, extension = split_name(name)
            if not extension:
                continue
            number = extensions.setdefault(extension, len(extensions))
            sample = newest.get(key, -1)
            if sample < 0 or held[sample] >> number & 1:
                if sample >= 0:
                    self.again[len(held)] = self.again.get(sample, 1) + 1
                sample = newest[key] = len(held)
                held.append(0)
                if self.awaited and key in self.awaited:
                    self._doubt(sample, self.awaited.pop(key), key)
                    self.torn.add(sample)
            held[sample] |= 1 << number
            rows.append((sample, start, offset, size, number))
            last, last_key = sample, key
            if behind:
                self._doubt(sample, len(self.gaps) - 1, key)
                behind = False
        if self.gaps:
            self._judge()

    def _doubt(self, sample: int, gap: int, key: str) -> None:
        self.beside.setdefault(sample, gap)
        self.names[sample] = key

    def _gap(self, gap: Gap, last: int, last_key: str) -> None:
        self.gaps.append(gap)
        number = len(self.gaps) - 1
        if last >= 0:
            self._doubt(last, number, last_key)
        key, extension = split_name(gap.name)
        if not extension:
            return
        sample = self.newest.get(key, -1)
        if sample >= 0 and not self.held[sample] >> self.extensions.get(extension, len(self.extensions)) & 1:
            self._doubt(sample, number, key)
            self.torn.add(sample)
        else:
            self.awaited[key] = number

    def _judge(self) -> None:
        """A sample beside damage has lost a member if it lacks one that all samples away from damage have."""
        common = -1
        for sample, held in enumerate(self.held):
            if sample not in self.beside:
                common &= held
        if common != -1:
            self.torn.update(sample for sample in self.beside if common & ~self.held[sample])

    def damage(self) -> tuple[str, ...]:
        """A line for each damaged place."""
        left_out: dict[int, list[str]] = {}
        for sample in sorted(self.torn):
            left_out.setdefault(self.beside[sample], []).append(f"'{self.names[sample]}'")
        lines = []
        for number, gap in enumerate(self.gaps):
            torn = left_out.get(number, [])
            why = gap.why or ("ends without an end marker" if torn else "")
            more = f"; {', '.join(torn)} lost a member there and {'is' if len(torn) == 1 else 'are'} left out"
            if why:
                lines.append(why + more * bool(torn))
        if len(lines) > _LINES:
            lines[_LINES:] = [f"and {len(lines) - _LINES} more damaged places"]
        return tuple(lines)

    def left_out(self) -> tuple[str, ...]:
        """A line on the links: what they lead to is not read under their names."""
        count, names = self.links
        if not count:
            return ()
        some = ", ".join(map(repr, names)) + ", ..." * (count > len(names))
        are = "member is a link to another name and is" if count == 1 else "members are links to other names and are"
        return (f"{count} {are} left out ({some}): make the tar with --dereference --hard-dereference",)


def scan_file(file: int, stored: int, note: str = "") -> ShardIndex:
    """The index of the tar behind the descriptor ``file``.

    Members of one key make a sample, side by side or not, until an extension comes again: with it another sample of
    that key begins. A sample that lost a member to damage is left out and named there; whether one did is judged by
    the samples away from damage.

    Args:
        file: descriptor of the tar; its position is not used.
        stored: bytes of the shard as it is stored, compressed or not.
        note: damage that was found before.
    """
    found = _Found()
    found.walk(file)
    count = len(found.held)
    rows = np.array(found.rows, dtype=np.int64).reshape(-1, 5)
    kept = np.ones(count, dtype=bool)
    kept[list(found.torn)] = False
    rows = rows[kept[rows[:, 0]]]
    number = np.cumsum(kept) - 1
    if len(rows) and np.any(np.diff(rows[:, 0]) < 0):
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
    samples = int(kept.sum())
    widths = np.bincount(number[rows[:, 0]], minlength=samples) if samples else np.empty(0, np.int64)
    width = int(widths[0]) if samples and (widths == widths[0]).all() else 0
    extensions = tuple(found.extensions)
    held = np.bincount(rows[:, 4], minlength=len(extensions)).tolist()
    members = {extension: n for extension, n in zip(extensions, held, strict=True) if n}
    damage = ((note,) if note else ()) + found.damage()
    again = [(number[sample], n) for sample, n in sorted(found.again.items()) if kept[sample]]
    doubtful = [number[sample] for sample in sorted(found.beside) if kept[sample]] if damage else []
    return ShardIndex(
        summary=Summary(samples, stored, dict(sorted(members.items())), damage + found.left_out()),
        extensions=extensions,
        width=width,
        first=None if width else smallest(np.concatenate(([0], np.cumsum(widths)))),
        block=smallest(rows[:, 2] // BLOCK),
        size=smallest(rows[:, 3]),
        extension=folded(smallest(rows[:, 4]), width),
        run=folded(smallest((rows[:, 2] - rows[:, 1]) // BLOCK), width),
        again=np.array(again, dtype=np.int64).reshape(-1, 2),
        doubtful=np.array(doubtful, dtype=np.int64),
    )

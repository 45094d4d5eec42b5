"""A sample: the members of a shard that share a key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from data.errors import SampleError


@dataclass(frozen=True)
class Sample:
    """One sample as it lies in its shard, undecoded.

    Attributes:
        shard: base name of the tar file.
        key: the name that the members share, sub-directory included.
        members: extension (lower case, without the leading dot, ``seg.png`` for ``key.seg.png``) -> bytes.
    """

    shard: str
    key: str
    members: dict[str, bytes]

    def first(self, extensions: Iterable[str], what: str) -> tuple[str, bytes]:
        """The first of ``extensions`` that the sample has, as (extension, bytes).

        Raises:
            SampleError: it has none of them; ``what`` names the missing part.
        """
        wanted = tuple(extensions)
        for extension in wanted:
            if extension in self.members:
                return extension, self.members[extension]
        raise SampleError(f"no {what} member ({'|'.join(wanted)}); it has: {', '.join(sorted(self.members)) or 'none'}")

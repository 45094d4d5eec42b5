"""A sample: the members of a shard that share a key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from data.errors import SampleError


@dataclass(frozen=True)
class Sample:
    """One sample as it lies in its shard, undecoded.

    Attributes:
        shard: base name of the tar file.
        key: the name that the members share, sub-directory included.
        members: extension (lower case, without the leading dot, ``seg.png`` for ``key.seg.png``) -> bytes.
        ready: who prepares it -> what that has made of it before its turn (``foresee`` of a prepare).
    """

    shard: str
    key: str
    members: dict[str, bytes]
    ready: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(map(len, self.members.values()))

    def contents(self, fields: Sequence[str]) -> list[bytes]:
        """The members named by ``fields``, all of which it must have.

        Raises:
            SampleError: one is not there.
        """
        members = self.members
        try:
            return [members[field] for field in fields]
        except KeyError as error:
            field = error.args[0]
            raise SampleError(f"no member {field}; it has: {', '.join(sorted(members))}", "missing", field) from None

    def first(self, extensions: Iterable[str], what: str, max_bytes: int | None = None) -> tuple[str, bytes]:
        """The first of ``extensions`` that the sample has, as (extension, bytes).

        Raises:
            SampleError: it has none of them, where ``what`` names the missing part; or it is of more than
                ``max_bytes``.
        """
        wanted = tuple(extensions)
        for extension in wanted:
            if extension in self.members:
                found = self.members[extension]
                if max_bytes is not None and len(found) > max_bytes:
                    reason = f"member {extension} of {len(found)} bytes exceeds max_bytes={max_bytes}"
                    raise SampleError(reason, "too_large", extension)
                return extension, found
        has = ", ".join(sorted(self.members)) or "none"
        raise SampleError(f"no {what} member ({'|'.join(wanted)}); it has: {has}", "missing", "|".join(wanted))


def text_of(raw: bytes, what: str, member: str = "") -> str:
    """UTF-8 text of a member, stripped.

    Raises:
        SampleError: it is no UTF-8 or empty.
    """
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise SampleError(f"{what} is not UTF-8 (byte {error.start})", "not_utf8", member) from None
    if not text:
        raise SampleError(f"{what} is empty", "empty", member)
    return text

"""Keys: what samples are called, and which split a key belongs to."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath

from data.pack.report import Unusable

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def clean(name: str) -> str:
    """``name`` as a key: folders stay, dots of the base name and control characters become ``_``.

    A key ends at the first dot of the base name.

    Raises:
        Unusable: nothing is left of it.
    """
    parts = [part for part in _CONTROL.sub("_", name).split("/") if part not in ("", ".", "..")]
    if not parts:
        raise Unusable("no key")
    return "/".join([*parts[:-1], parts[-1].replace(".", "_")])


def of_file(path: Path, folder: Path) -> str:
    """The key of a file: its path relative to ``folder`` where it lies inside, without the extension.

    Raises:
        Unusable: it is the folder itself.
    """
    name = path.relative_to(folder) if path.is_relative_to(folder) else path
    if not name.name:
        raise Unusable("no key")
    return clean(PurePosixPath(name.as_posix()).with_suffix("").as_posix())


class Keys:
    """The keys that are given away already."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def claim(self, key: str) -> None:
        """Takes ``key``.

        Raises:
            Unusable: another sample has it.
        """
        if key in self._taken:
            raise Unusable("duplicate key", key)
        self._taken.add(key)

    def free(self, key: str) -> str:
        """``key`` if no sample has it, else the first free one of ``key-2``, ``key-3``, ..."""
        number, found = 1, key
        while found in self._taken:
            number += 1
            found = f"{key}-{number}"
        return found


def in_share(key: str, share: float) -> bool:
    """Whether ``key`` belongs to the part of about ``share`` of all keys; depends on the key alone."""
    digest = hashlib.blake2b(key.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64

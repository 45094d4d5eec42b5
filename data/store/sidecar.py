"""Indexes that were uploaded beside their shards."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections import Counter
from pathlib import Path

from data.errors import InputError, RunError
from data.shards import indexfile
from data.store import remote
from data.store import url as urls

_MISSES = 3


class Sidecars:
    """Copies ``URL.idx`` to where the index of ``URL`` is looked for.

    A folder in which some first shards have none is not asked any more.
    """

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self._misses: Counter[str] = Counter()

    def copy(self, url: str, size: int, token: str, place: Path) -> None:
        """Makes ``place`` if there is an index beside the shard that fits it."""
        folder = urls.folder(url)
        if "?" in url or urls.scheme(url) not in urls.REMOTE or self._misses[folder] >= _MISSES:
            return
        source = url + ".idx"
        copied = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
        try:
            found = remote.call("head", source, self.deadline_s)
            copied.touch()
            remote.call("get", source, self.deadline_s, path=str(copied), bytes=found["bytes"], token=found["token"])
            content = indexfile.restamped(copied.read_bytes(), size, token)
            if content is None:
                self._misses[folder] += 1
                return
            copied.write_bytes(content)
            os.replace(copied, place)
            self._misses[folder] = -_MISSES  # one that lacks it is an exception here
        except (InputError, RunError):  # the shard itself will say what is wrong with the store
            self._misses[folder] += 1
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(copied)

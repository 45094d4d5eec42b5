"""What this process keeps open of caches: for as long as a piece of work lasts, and never while it waits.

What is open anywhere cannot give way in a cache. A process can make its own shards give way and no other's; so none
keeps one open while it waits for room, for a transfer, or for whoever takes what it makes. To open one again costs a
tenth of a millisecond.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

# Changed by single operations and no lock: threads may let go of too much, but never wait after a fork.
_works: list[None] = []
_closers: dict[Callable[[], None], None] = {}


class during_work(contextlib.ContextDecorator):
    """What is opened meanwhile may be kept until the end of it: a micro-batch, a chunk of samples."""

    __slots__ = ()

    def __enter__(self) -> None:
        _works.append(None)

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(IndexError):  # begun before a fork, by the parent
            _works.pop()
        if not _works:
            let_go()


def keep(close: Callable[[], None]) -> bool:
    """Whether something may be kept open; ``close`` is then called when it no longer may."""
    if _works:
        _closers[close] = None
    return bool(_works)


def let_go() -> None:
    """Closes all that is kept."""
    while _closers:
        with contextlib.suppress(KeyError):  # another thread has just taken the last
            _closers.popitem()[0]()


def _begin() -> None:
    _works.clear()
    let_go()


os.register_at_fork(after_in_child=_begin)  # what the parent has open it could not close for the child

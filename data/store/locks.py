"""Locks between the processes of a host, which the kernel gives up when their holder dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from data.errors import InputError

_SHORTEST_S, _LONGEST_S = 0.001, 0.05


def lock(descriptor: int, how: int) -> bool:
    """Takes a lock without waiting; False if another one has it.

    Raises:
        InputError: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR):
            return False
        raise InputError(
            f"the cache folder's file system has no locks ({error.strerror}); put cache.folder on a local disk"
        ) from None
    return True


def release(descriptor: int) -> None:
    """Gives a lock up and closes: a child forked meanwhile has a copy of the descriptor, which would keep the lock."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


@contextlib.contextmanager
def hold(path: Path, check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds the lock of this name alone; its file is gone afterwards.

    Args:
        path: file that is made for the lock.
        check: called while waiting; what it raises ends the wait.
    """
    pause = _SHORTEST_S
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            while not lock(descriptor, fcntl.LOCK_EX):
                check()
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_S)
        except BaseException:
            os.close(descriptor)
            raise
        if _is(descriptor, path):
            break
        release(descriptor)  # the last holder removed this file: somebody may hold a new one
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        release(descriptor)


def sweep(path: Path) -> None:
    """Removes the file of a lock whose holder died."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    if not lock(descriptor, fcntl.LOCK_EX):
        os.close(descriptor)
        return
    if _is(descriptor, path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    release(descriptor)


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False

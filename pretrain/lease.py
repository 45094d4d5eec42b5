"""One process group at a time works in a run directory: the kernel keeps the record, no clock and no process id does.

Two locks are held as long as the process lives. One on the file ``lock``, of the kind that network file systems know;
who removes that file takes this lock away unnoticed, so the directory itself is locked as well, where the file system
can. Both end with the process, however it ends.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
from pathlib import Path
from weakref import WeakSet

from data.errors import InputError, RunError
from pretrain.checkpoint.disk import make

log = logging.getLogger("pretrain")

LOCK = "lock"
_HELD = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)


def held(error: OSError) -> bool:
    """Whether a lock was not given as another process has it; otherwise the file system has no locks."""
    return error.errno in _HELD


class Lease:
    """The right to work in ``folder``, from now until this process ends.

    Args:
        folder: the run directory; must be there.
        given: its name as the user wrote it.

    Raises:
        InputError: another process has it.
        OSError: the lock file cannot be written.
    """

    def __init__(self, folder: Path, given: str) -> None:
        self.path = folder / LOCK
        self.locking = True
        self._folder = self._file = -1
        self._folder = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        self._file = self._opened()
        _OWN.add(self)
        for lock in (self._lock_file, self._lock_folder):
            try:
                lock()
            except OSError as error:
                if held(error):
                    raise InputError(
                        f"run_dir '{given}' is in use by {self._owner()}; give another run_dir=... or end that process "
                        "first"
                    ) from None
                if lock == self._lock_file:
                    self.locking = False
        if not self.locking:
            log.warning(
                "the file system of run_dir '%s' has no locks: nothing keeps a second process from working in it; see "
                "to it that the job is never started twice at the same time",
                given,
            )
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def _opened(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def _lock_file(self) -> None:
        while True:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._is_there():
                return
            # Removed between opening and locking: this is a lock on a file that nobody else will ever open.
            os.close(self._file)
            self._file = self._opened()

    def _lock_folder(self) -> None:
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            own = [one for one in _OWN if one is not self and one.path == self.path]
            if held(error) and own:
                return  # by this very process, to which the other kind of lock never says no
            raise

    def _is_there(self) -> bool:
        return _is_still(self._file, self.path)

    def _owner(self) -> str:
        return os.pread(self._file, 200, 0).decode(errors="replace").strip() or "another process"

    def let_go(self) -> None:
        """Closes the files; what locks there are end with the last process that has them open."""
        for file in (self._folder, self._file):
            if file >= 0:
                os.close(file)
        self._folder = self._file = -1

    def __del__(self) -> None:
        self.let_go()

    def stay(self) -> None:
        """Makes sure that the folder is still where it was; any thread may ask.

        Otherwise what is written by its name would begin another one, apart from the files that are open.

        Raises:
            RunError: it was moved or removed, or its file system was taken away.
            OSError: the file system does not say; ask again.
        """
        if self._folder >= 0 and not _is_still(self._folder, self.path.parent):
            raise RunError(
                f"'{self.path.parent}' was moved or removed while the run worked in it; this process stops, and "
                "publishes nothing more; put it back, and the same command continues"
            )

    def hold(self) -> None:
        """Makes sure that the lease still stands, before something is published under it.

        Raises:
            RunError: the lock file was removed, and another process has taken its place; or see :meth:`stay`.
            OSError: the file system does not say; ask again.
        """
        self.stay()
        if not self.locking or self._file < 0 or self._is_there():
            return
        former, self._file = self._file, self._opened()
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if held(error):
                raise RunError(
                    f"'{self.path}' was removed, and {self._owner()} works in this run directory now; this one stops, "
                    "and publishes nothing more"
                ) from None
            former, self._file = self._file, former  # not known yet: the next look finds the same, and tries again
            raise
        finally:
            os.close(former)
        os.pwrite(self._file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        log.warning("'%s' was removed; it is there again", self.path)


def leased(folder: Path, given: str) -> Lease:
    """The lease of a run directory, which is made if it is missing.

    Args:
        folder: the run directory.
        given: its name as the user wrote it.

    Raises:
        InputError: it cannot be made or written, or another process has it.
    """
    try:
        make(folder)
        return Lease(folder, given)
    except OSError as error:
        raise InputError(f"run_dir '{given}' cannot be written: {error.strerror}") from None


def _is_still(opened: int, path: Path) -> bool:
    """Whether ``path`` leads to what was opened under that name."""
    try:
        found, own = os.stat(path), os.fstat(opened)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)


_OWN: WeakSet[Lease] = WeakSet()


def _leave_to_the_parent() -> None:
    # The directory's lock belongs to the open file, and so to forked children too: loader workers outlive a killed
    # trainer for some seconds, and must not keep the run from going on.
    for lease in list(_OWN):
        lease.let_go()


os.register_at_fork(after_in_child=_leave_to_the_parent)

"""What can go wrong, in three words: the user's input, the run itself, and a sample (which is survived)."""

from __future__ import annotations

import difflib
import errno
import os
import resource
from collections.abc import Iterable


class InputError(Exception):
    """Wrong input: one line that names the value, the place and the choices. The command line exits with code 2."""


class CacheError(InputError):
    """A cache that is too small for what is read: no fault of a shard."""


class RunError(Exception):
    """The run cannot go on although its input is right: a worker died, a disk is full, the loss is no number.

    One line that names the cause and the next action. The command line exits with code 1; the run can be continued.
    """


class OutOfFiles(RunError):
    """The process, or its host, has as many files open as it may: no fault of the one that was to be opened."""


KINDS = (
    "unreadable",  # its bytes cannot be read, or are not what the index says
    "undecodable",  # a damaged file, or one of another format
    "missing",  # a member or a field of it that is needed
    "not_utf8",
    "empty",
    "too_short",
    "too_long",
    "too_large",  # bytes of a member
    "bomb",  # a small file that would decode to a huge one
    "wrong_rate",
    "silent",
    "unknown_label",  # a class, or a character of a transcript, that the run has none for
)
"""Why a sample cannot be used, in a word."""


class SampleError(Exception):
    """One sample cannot be used. Carries the reason; the reader adds the shard and the key.

    Args:
        reason: one line.
        kind: one of :data:`KINDS`.
        member: extension of the member at fault, "" if it is the sample as a whole.
    """

    def __init__(self, reason: str, kind: str = "undecodable", member: str = "") -> None:
        super().__init__(reason)
        self.kind, self.member = kind, member

    def __reduce__(self) -> tuple[type[SampleError], tuple[str, str, str]]:
        return SampleError, (str(self), self.kind, self.member)


_NAMED = 3  # names that a value may be the beginning of


def choices(value: str, known: Iterable[str]) -> str:
    """The tail of an error message about an unknown name: the nearest known one, then all of them."""
    names = sorted(known)
    begun = [name for name in names if value and name.startswith(value)]
    near = begun if 1 < len(begun) <= _NAMED else difflib.get_close_matches(value, names, n=1, cutoff=0.6)
    hint = f"did you mean {' or '.join(repr(name) for name in near)}? " if near else ""
    return f"{hint}choices: {', '.join(names) if names else 'none'}"


def check_files(error: OSError, place: str) -> None:
    """To be called where ``place`` could not be opened, before saying that the fault is there.

    Raises:
        OutOfFiles: too many others are open.
    """
    if error.errno in (errno.EMFILE, errno.ENFILE):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        raise OutOfFiles(
            f"'{place}' cannot be opened: {error.strerror}; the limit of this process is {limit}: raise it (ulimit -n)"
        ) from None


def unlisted(error: OSError) -> None:
    """For ``os.walk``, which passes over a folder that it cannot list without a word.

    Raises:
        InputError: unless it is what a file system keeps for itself.
    """
    if os.path.basename(error.filename) != "lost+found":
        raise InputError(f"folder '{error.filename}' cannot be read: {error.strerror}")

"""Which errors of an object store another attempt may mend, and how long attempts go on. Used in the helper process."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from obstore import exceptions

FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 15.0
UNKNOWN_HOST_S = 30.0
"""A host name that cannot be looked up is mostly misspelt: it is not waited for as long as one that answers badly."""
CREDENTIAL_TRIES = 3
TOLD_AFTER_S = 20.0

_METADATA = re.compile(r"169\.254\.|metadata\.google|metadata/v1|metadata/identity")
_KINDS = {
    "dns error": "the host name cannot be looked up",
    "ConnectionRefused": "the connection is refused",
    "kind: Connect": "the host cannot be connected to",
    "kind: Timeout": "the server fell silent",
    "kind: Interrupted": "the connection broke off",
    "kind: Request": "the connection broke off",
}

Got = TypeVar("Got")


class Failure(Exception):
    """What ends a request. ``kind``: missing, denied, wrong (settings), name, changed, disk, network or cancelled."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Hiccup(Exception):
    """What another attempt may mend."""


def judge(error: Exception) -> Failure | Hiccup:
    """What an exception of obstore means."""
    whole = str(error)
    text = _words(whole)
    status = re.search(r"status code: (\d{3})", whole)
    code = int(status[1]) if status else 0
    if _METADATA.search(whole):  # asked for credentials; its 403 and 404 are not the object's
        return Hiccup(f"no credentials were found, neither on this machine nor by its metadata service ({text})")
    if code == 404 or (isinstance(error, FileNotFoundError) and not code):  # obstore makes one of a 405 too
        return Failure("missing", text)
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
        return Failure("denied", text)
    if isinstance(error, exceptions.PreconditionError) or code in (412, 416):
        return Failure("changed", text)
    if certificate := re.search(r"InvalidCertificate\(\s*(\w+)", whole):
        return Failure("name", f"its certificate is not trusted ({certificate[1]})")
    if isinstance(error, exceptions.InvalidPathError | exceptions.UnknownConfigurationKeyError):
        return Failure("name", text)
    if re.search(r"source: Missing\w+", whole) or (300 <= code < 500 and code not in (408, 425, 429)) or code == 501:
        return Failure("wrong", text)
    return Hiccup(text)


def _words(whole: str) -> str:
    """An exception of obstore in a few words, without a query: that may hold a signature."""
    line = re.sub(r"(https?://[^\s?]*)\?\S*", r"\1", whole.partition("\n")[0].partition("<?xml")[0]).rstrip(": ")
    if answer := re.search(r"status code: (.*)", line):
        return f"the server answered {answer[1]}"
    for kind, words in _KINDS.items():
        if kind in whole:
            return words
    return re.sub(r" in \d[\d.]*[mµn]?s\b", "", line)


class Patience:
    """Waits between attempts, ever longer, until there was no progress for ``deadline_s``."""

    def __init__(self, deadline_s: float, cancelled: threading.Event, tell: Callable[[str], None]) -> None:
        self.deadline_s = deadline_s
        self.cancelled = cancelled
        self.tell = tell
        self.progress()

    def progress(self) -> None:
        """Something was got: the deadline begins anew."""
        self.tries = 0
        self.since = self.told = time.monotonic()

    def check(self) -> None:
        """Raises Failure if nobody wants the result any more."""
        if self.cancelled.is_set():
            raise Failure("cancelled", "cancelled")

    def wait(self, hiccup: Hiccup) -> None:
        """Returns when the next attempt is due, or raises Failure."""
        text, now = str(hiccup), time.monotonic()
        self.tries += 1
        if text.startswith("no credentials") and self.tries >= CREDENTIAL_TRIES:
            raise Failure("denied", text)
        limit = self.deadline_s
        if "looked up" in text:
            limit = min(limit, UNKNOWN_HOST_S)
        pause = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**self.tries) * random.uniform(0.5, 1.0)
        if now - self.since + pause > limit:
            raise Failure("network", f"no progress for {now - self.since:.0f} s, {self.tries} attempts: {text}")
        if now - self.told > TOLD_AFTER_S:
            self.told = now
            self.tell(f"no progress for {now - self.since:.0f} s, trying again: {text}")
        self.cancelled.wait(pause)
        self.check()


def attempt(ask: Callable[[], Got], patience: Patience) -> Got:
    """The result of ``ask``, tried until it answers.

    Raises:
        Failure: it will not, or not within the deadline.
    """
    while True:
        try:
            return ask()
        except (exceptions.BaseError, FileNotFoundError) as error:
            verdict = judge(error)
            if isinstance(verdict, Failure):
                raise verdict from None
            patience.wait(verdict)

"""One object into one file: continued after a break, of one version, checked. Used in the helper process."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import obstore
from obstore import exceptions

from data.store.retry import Failure, Hiccup, Patience, judge

_CHUNK = 1 << 17
"""What came of a chunk is lost if the transfer breaks off within it."""


def token(meta: Any) -> str:
    """What tells one version of an object from another: its etag, else when it was last changed."""
    return meta["e_tag"] or meta["last_modified"].isoformat()


class Transfer:
    """The bytes of version ``version`` of an object, into ``file``.

    Args:
        store: client.
        key: name of the object there.
        size: its bytes.
        version: see :func:`token`.
        file: open for writing, unbuffered.
        patience: how long to go on.
        hashed: whether the MD5 is wanted, which costs more time than the rest.
    """

    def __init__(
        self, store: Any, key: str, size: int, version: str, file: BinaryIO, patience: Patience, hashed: bool
    ) -> None:
        self.store = store
        self.key = key
        self.size = size
        self.version = version
        self.file = file
        self.patience = patience
        self.hashed = hashed
        self._digest = hashlib.md5(usedforsecurity=False)
        self._at = self._furthest = 0

    def run(self) -> str:
        """Fills the file; returns the MD5 of what was got, hexadecimal, if wanted.

        Raises:
            Failure: see there.
        """
        while True:
            try:
                for chunk in self._body():
                    self._write(chunk)
                    self.patience.check()
                if self._at == self.size:
                    return self._digest.hexdigest()
                hiccup = Hiccup(f"the body ended after {self._at} of {self.size} bytes")
            except exceptions.NotSupportedError:  # a server that knows no ranges
                self._restart()
                hiccup = Hiccup("the server cannot continue a transfer that broke off")
            except (exceptions.BaseError, FileNotFoundError) as error:
                if self._at == self.size > 0:  # it broke off behind the last byte: there is nothing more to ask for
                    return self._digest.hexdigest()
                if "non-partial response" in str(error):  # the same, of another client
                    self._restart()
                verdict = judge(error)
                if isinstance(verdict, Failure):
                    raise verdict from None
                hiccup = verdict
            self.patience.wait(hiccup)

    def _body(self) -> Iterator[Any]:
        options: dict[str, Any] = {"range": {"offset": self._at}} if self._at else {}
        if self.version.startswith('"'):  # a strong etag
            options["if_match"] = self.version
        reply = obstore.get(self.store, self.key, options=options)  # type: ignore[arg-type]
        if (reply.meta["size"], token(reply.meta)) != (self.size, self.version):
            raise Failure("changed", f"it is now {token(reply.meta)} of {reply.meta['size']} bytes")
        yield from reply.stream(min_chunk_size=_CHUNK)

    def _write(self, chunk: Any) -> None:
        view = memoryview(chunk)
        if self._at + len(view) > self.size:
            raise Failure("changed", f"it has more than {self.size} bytes")
        if self.hashed:
            self._digest.update(view)
        self._at += len(view)
        try:
            while view:
                view = view[self.file.write(view) :]
        except OSError as error:
            raise Failure("disk", error.strerror or str(error)) from None
        if self._at > self._furthest:  # bytes that were lost and come again are no progress
            self._furthest = self._at
            self.patience.progress()

    def _restart(self) -> None:
        self._at = 0
        self.file.seek(0)
        self.file.truncate()
        self._digest = hashlib.md5(usedforsecurity=False)


def checksum(version: str) -> str:
    """The MD5 that an etag looks like, hexadecimal; "" where it does not (objects that were uploaded in parts)."""
    hit = re.fullmatch(r'"?([0-9a-f]{32})"?', version)
    return hit[1] if hit else ""

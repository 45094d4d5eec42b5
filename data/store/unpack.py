"""What becomes a plain tar only in the cache: gzip files, and the output of commands."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
import zlib

from data.errors import InputError, RunError
from data.store.cache import Cache, Part

_READ = 1 << 20
_SALVAGED = 4096
_RATIO = 4
_STEPS = 64
"""Where the size is not known, this part of the cache is set aside at a time."""
_GZIP = b"\x1f\x8b"
_SHOWN = 200


def room(packed: int, transferred: bool, cache: Cache) -> int:
    """Bytes to set aside for unpacking a file of ``packed`` bytes, and for itself if it is transferred.

    A guess that mostly suffices: of those who unpack at the same time and then need more, one might have to begin anew.
    """
    least = packed * (1 + transferred)
    return max(least, min(packed * (_RATIO + transferred), cache.max_size // 4))


def gunzip(source: int, part: Part, name: str, beside: int = 0) -> str:
    """Unpacks the gzip file open at ``source`` into ``part``, as far as it goes.

    Args:
        source: descriptor.
        part: what it becomes.
        name: for messages.
        beside: bytes that the file itself takes of what is set aside for ``part``.

    Returns:
        What is wrong with the file, "" if nothing.

    Raises:
        InputError: it is no gzip file, cannot be read, or unpacks to more than the cache holds.
    """
    unpacker = zlib.decompressobj(wbits=31)
    data, done, ended = _read(source, name), 0, False
    if not data.startswith(_GZIP):
        raise InputError(f"shard '{name}' is named as gzip, and is none: it begins with {data[:4]!r}")
    while True:
        if not data:
            data = _read(source, name)
            if not data:
                return "" if ended else f"the gzip file ends early; {done} bytes could be unpacked"
        if ended:  # another member follows, or zeros that fill a block
            data = data.lstrip(b"\0")
            if data and not data.startswith(_GZIP[: len(data)]):
                return f"{len(data)} or more bytes follow the end of the gzip file, and are none of it"
            if not data:
                continue
            unpacker, ended = zlib.decompressobj(wbits=31), False
        before = unpacker.copy()
        try:
            out = unpacker.decompress(data, _READ)
        except zlib.error as error:
            done = _append(part, _salvage(before, data), done, name, beside)
            return f"the gzip file is damaged ({error}); {done} bytes could be unpacked"
        done = _append(part, out, done, name, beside)
        ended = unpacker.eof
        data = unpacker.unused_data if ended else unpacker.unconsumed_tail


def _salvage(unpacker: zlib._Decompress, data: bytes) -> bytes:
    """What ``data`` gives before its error: a call that fails returns nothing, so the steps become small."""
    out, before = bytearray(), unpacker.copy()
    try:
        while piece := unpacker.decompress(data, _SALVAGED):
            out += piece
            data = unpacker.unconsumed_tail
            before = unpacker.copy()
    except zlib.error:
        with contextlib.suppress(zlib.error):
            for at in range(len(data)):
                out += before.decompress(data[at : at + 1])
    return bytes(out)


def spool(command: str, part: Part, deadline_s: float) -> None:
    """Writes the output of a shell command into ``part``.

    Raises:
        RunError: it failed, or was silent for ``deadline_s``.
        InputError: it gives more than the cache holds.
    """
    process = subprocess.Popen(
        ["/bin/bash", "-c", "set -o pipefail; " + command]
        if os.path.exists("/bin/bash")
        else ["/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    words, done = b"", 0
    open_ = selectors.PollSelector()  # not select: that knows no descriptors of 1024 and more
    for output in (process.stdout, process.stderr):
        open_.register(output.fileno(), selectors.EVENT_READ)
    last = time.monotonic()
    try:
        while open_.get_map():
            ready = open_.select(max(0.0, last + deadline_s - time.monotonic()))
            if not ready:
                raise RunError(f"'pipe:{command}' was silent for {deadline_s:.0f} s")
            for descriptor in (key.fd for key, _ in ready):
                data = os.read(descriptor, _READ)
                last = time.monotonic()
                if not data:
                    open_.unregister(descriptor)
                elif descriptor == process.stderr.fileno():
                    words = (words + data)[-4096:]
                else:
                    done = _append(part, data, done, f"pipe:{command}")
        if process.wait() != 0:
            said = words.decode(errors="replace").strip().rpartition("\n")[2][:_SHOWN]
            raise RunError(f"'pipe:{command}' ended with exit code {process.returncode}: {said or 'it said nothing'}")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
        process.stderr.close()


def _read(source: int, name: str) -> bytes:
    try:
        return os.read(source, _READ)
    except OSError as error:
        raise InputError(f"shard '{name}' cannot be read: {error.strerror}") from None


def _append(part: Part, data: bytes, done: int, name: str, beside: int = 0) -> int:
    needed = done + len(data) + beside
    if needed > part.size:
        limit = part.cache.max_size
        if needed > limit:
            raise InputError(f"shard '{name}' gives more than cache.max_size, {limit} bytes; raise it")
        part.grow(min(limit, max(needed, part.size + limit // _STEPS)))
    view = memoryview(data)
    while view:
        view = view[os.write(part.descriptor, view) :]
    return done + len(data)

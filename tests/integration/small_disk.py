"""A small disk of one's own: a tmpfs in a mount namespace that only this process and its children see."""

from __future__ import annotations

import ctypes
import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

_NEWNS, _NEWUSER, _BIND, _REMOUNT, _RDONLY, _REC, _PRIVATE = 0x20000, 0x10000000, 4096, 32, 1, 16384, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: Path, kind: str | None, flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    encoded = kind.encode() if kind else None
    if _libc.mount(source.encode(), str(target).encode(), encoded, flags, options.encode() or None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def writable(folder: Path, yes: bool) -> None:
    """Makes ``folder`` read-only from now on, though files that are open elsewhere stay so, or takes that back."""
    if yes:
        _libc.umount2(str(folder).encode(), 2)
        return
    mount(str(folder), folder, None, _BIND)
    mount("none", folder, None, _BIND | _REMOUNT | _RDONLY)


def _own_namespace() -> None:
    uid, gid = os.getuid(), os.getgid()
    if _libc.unshare(_NEWNS) and _libc.unshare(_NEWNS | _NEWUSER):
        raise OSError(ctypes.get_errno(), "no namespace of one's own")
    if os.getuid() != uid:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    mount("none", Path("/"), None, _REC | _PRIVATE)


def on_small_disk(folder: Path, size: str, body: Callable[[], None]) -> None:
    """Runs ``body`` in a process to which ``folder`` is a disk of ``size``; skips where that is not allowed."""
    folder.mkdir(exist_ok=True)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            try:
                _own_namespace()
                mount("none", folder, "tmpfs", 0, f"size={size}")
            except OSError as error:
                print(f"no disk of one's own: {error}", flush=True)
                code = 77
            else:
                body()
                code = 0
        except BaseException:  # noqa: BLE001 - this process ends here
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == 77:
        pytest.skip("mounting a disk is not allowed here")
    assert code == 0


def fill(folder: Path) -> Path:
    """Takes all the room there is; returns the file that holds it."""
    ballast = folder / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        for block in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(block))
            except OSError:
                pass
    return ballast

"""Asks the processes of a run to stop: at a step edge, with a checkpoint. Imports no torch."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from data.errors import RunError
from pretrain import stopmark
from pretrain.runs.holder import Holder, holder, works
from pretrain.runs.summary import starts

_LOOK_S = 0.1
_SLURM_S = 30.0


def stop(folder: Path, wait_s: float) -> str:
    """Sends SIGTERM to the process at work in ``folder``, here or through Slurm, and waits for its end.

    Args:
        folder: the run directory.
        wait_s: how long to wait; 0 to return at once.

    Returns:
        What was done, in words.

    Raises:
        RunError: it runs on another host outside Slurm, is somebody else's or may be, or goes on after ``wait_s``.
    """
    found = holder(folder)
    if works(folder, found) is False:
        return "nobody is at work in it"
    marked = stopmark.put(folder)
    try:
        asked = _ask(folder, found)
    except RunError:
        stopmark.take_back(folder)
        raise
    end = time.monotonic() + wait_s
    while wait_s and works(folder, holder(folder)) is not False:
        if time.monotonic() > end:
            raise RunError(f"{asked} was asked to stop and is still at work after {wait_s:g} s; it ends after its step")
        time.sleep(_LOOK_S)
    again = (
        f"; '{folder}' cannot be written, so torchrun may start it again (launcher.max_restarts)" if not marked else ""
    )
    return f"{asked} {'has stopped' if wait_s else 'was asked to stop'}{again}"


def _ask(folder: Path, found: Holder) -> str:
    """Sends the signal; returns to whom.

    Raises:
        RunError: it cannot be sent.
    """
    job = (starts(folder) or [{}])[-1].get("job")
    if found.host == socket.gethostname() and found.pid:
        if works(folder, found) is None:
            raise RunError(
                f"the file system of '{folder}' has no locks, and whether process {found.pid} still is the run's "
                f"cannot be told; look at it, then `kill -TERM {found.pid}`"
            )
        try:
            os.kill(found.pid, signal.SIGTERM)
        except ProcessLookupError:
            raise RunError(
                f"'{folder}' is locked, but process {found.pid} is not there: its launcher may still be at work, or it "
                "runs in a container"
            ) from None
        except PermissionError:
            raise RunError(f"process {found.pid} of '{folder}' is another user's") from None
        return f"process {found.pid}"
    if job and shutil.which("scancel"):
        command = ["scancel", "--signal=TERM", job]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SLURM_S, check=False)
        except subprocess.TimeoutExpired:
            raise RunError(
                f"'{' '.join(command)}' does not answer within {_SLURM_S:g} s; whether it came through, "
                "`pretrain runs list` shows"
            ) from None
        if done.returncode:
            raise RunError(f"'{' '.join(command)}' failed: {' '.join(done.stderr.split())}")
        return f"Slurm job {job}"
    raise RunError(
        f"'{folder}' is worked on by process {found.pid} on {found.host or 'another host'}; stop it there with "
        f"`kill -TERM {found.pid}`"
    )

"""The mirror process of one tracker, as the process that trains sees it.

It is ``pretrain runs sync RUN --tracker NAME`` in a session of its own, so that Ctrl-C is not meant for it. Its
standard input is a pipe on which nothing is ever written: the kernel closes it with the trainer, however that ends,
and then the mirror delivers what is left, for some seconds.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
from pathlib import Path
from weakref import WeakSet

from pretrain.launch import PRETRAIN
from pretrain.redaction import redact
from pretrain.trackers.delivered import FOLDER

log = logging.getLogger("pretrain")

GRACE_S = 30
"""So long a mirror may outlive its trainer."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 30.0, 600.0


class MirrorProcess:
    """Keeps a mirror going. One that ends is said once, and followed by another after a pause that doubles.

    Args:
        folder: the run directory.
        name: of the tracker in the config's ``logger``.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.process: subprocess.Popen[bytes] | None = None
        self._told = False
        self._pause_s = _FIRST_PAUSE_S
        self._again = 0.0
        _OWN.add(self)

    @property
    def _log(self) -> Path:
        return self.folder / FOLDER / f"{self.name}.log"

    def start(self) -> None:
        """Starts it; what it prints goes to ``trackers/NAME.log``."""
        command = [*PRETRAIN, "runs", "sync", str(self.folder), "--tracker", self.name]
        nice = shutil.which("nice")
        if nice is not None:
            command = [nice, "-n", "19", *command]
        try:
            self._log.parent.mkdir(exist_ok=True)
            with open(self._log, "ab") as output:
                self.process = subprocess.Popen(
                    [*command, "--with-trainer"],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except OSError as error:
            self._ended(str(error))

    def look(self, now: float) -> None:
        """Says that it has ended, or starts it again once its pause is over. Costs a system call."""
        if self.process is None:
            if now >= self._again:
                self.start()
        elif self.process.poll() is not None:
            self._ended(self._cause(self.process))

    def close(self) -> None:
        """Tells it that the run has ended."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()

    def finish(self, seconds: float) -> None:
        """Waits for it, ``seconds`` at most after :meth:`close`, and says if something is not delivered."""
        cause = "it is not running"
        if self.process is not None:
            try:
                if self.process.wait(max(0.0, seconds)) == 0:
                    return
                cause = self._cause(self.process)
            except subprocess.TimeoutExpired:
                cause = f"still at it, for {GRACE_S} s at most"
        log.info("%s may lack rows (%s); `pretrain runs sync %s` delivers them", self.name, cause, self.folder)

    def _ended(self, cause: str) -> None:
        if not self._told:
            text = "the mirror to %s ended (%s); the run goes on, and what it lacks is delivered later"
            log.warning(text, self.name, cause)
        self._told = True
        self.close()
        self.process = None
        self._again = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _cause(self, process: subprocess.Popen[bytes]) -> str:
        if process.returncode < 0:
            return f"killed by signal {-process.returncode}"
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError as error:
            lines = [f"no log: {error.strerror}"]
        return redact(lines[-1].removeprefix("pretrain: error: ")) if lines else f"exit code {process.returncode}"


_OWN: WeakSet[MirrorProcess] = WeakSet()


def _leave_to_the_parent() -> None:
    # Loader workers outlive a killed trainer for some seconds; the mirror is to hear of its end at once.
    for mirror in list(_OWN):
        mirror.close()


os.register_at_fork(after_in_child=_leave_to_the_parent)

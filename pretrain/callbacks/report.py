"""Keeps ``report.html`` in the run directory up to date, by a process of its own."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
from typing import Any

import pytorch_lightning as pl

from data.errors import InputError
from data.loading.loader import StepBatch
from pretrain.launch import PRETRAIN
from pretrain.report.document import partial_of
from pretrain.report.page import NAME, write_report
from pretrain.run import RunDirectory
from pretrain.signals import EXIT_STOPPED

log = logging.getLogger("pretrain")

SHARE = 0.005
"""Most of the run's time that writing may take: a writer that took long is followed by a longer pause."""

_END_S = 5.0
"""For a writer that is told to end, and again for one that is killed."""

UNWRITTEN = (OSError, InputError, ArithmeticError, LookupError, TypeError, ValueError)
"""What rows that are not as they should be, or a full disk, can end in. A run that is done stays done."""


class Report(pl.Callback):
    """Starts ``pretrain report RUN`` every ``every_s`` seconds, with the lowest priority, and once more at the end.

    Training waits for none of them but the last. A report that cannot be written is a warning, nothing more.

    Args:
        directory: of the run.
        enabled: whether there is one.
        every_s: seconds between two.
    """

    def __init__(self, directory: RunDirectory, enabled: bool = True, every_s: float = 60.0) -> None:
        self.directory, self.enabled, self.every_s = directory, enabled, every_s
        self.active = False
        self.writer: subprocess.Popen[bytes] | None = None
        self.written = 0
        self.cost = 0.0
        self._due = self._began = time.monotonic()
        self._warned = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The first one is due after ``every_s``."""
        self.active = self.enabled and trainer.is_global_zero
        self._due = time.monotonic() + self.every_s

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Starts a writer if one is due."""
        now = time.monotonic()
        if not self.active or now < self._due:
            return
        if self.writer is None:
            self._start(now)
        else:
            self._look(now)

    def _start(self, now: float) -> None:
        command = [*PRETRAIN, "report", str(self.directory.path), "--quiet"]
        nice = shutil.which("nice")
        if nice is not None:
            command = [nice, "-n", "19", *command]
        quiet = subprocess.DEVNULL
        try:  # a session of its own: Ctrl-C is meant for the run
            self.writer = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
        except OSError as error:
            self._fail(error)
        self._began = now
        self._due = now + min(1.0, self.every_s)  # when to look whether it is done

    def _look(self, now: float) -> None:
        """Whether the writer is done, what it cost, and when the next one may begin."""
        assert self.writer is not None
        try:
            pid, status, usage = os.wait4(self.writer.pid, os.WNOHANG)
        except ChildProcessError:  # where the launcher has SIGCHLD ignored, children are not waited for
            self.writer.returncode = 0
            self._done(self.cost)
            return
        if not pid:
            self._due = now + min(1.0, self.every_s)
            return
        self.writer.returncode = os.waitstatus_to_exitcode(status)
        self._done(usage.ru_utime + usage.ru_stime)

    def _done(self, cost: float) -> None:
        assert self.writer is not None
        if self.writer.returncode < 0 or self.writer.returncode == EXIT_STOPPED:
            # Somebody ended it, with the run or to make room; the next one writes it all.
            try:
                partial_of(self.directory.path / NAME, self.writer.pid).unlink(missing_ok=True)
            except OSError as error:
                self._fail(error)
        elif self.writer.returncode:
            self._fail(f"exit code {self.writer.returncode} of 'pretrain report {self.directory.path}'")
        else:
            self.written += 1
        self.writer, self.cost = None, cost
        self._due = self._began + max(self.every_s, cost / SHARE)

    def _fail(self, reason: object) -> None:
        if not self._warned:
            log.warning("%s cannot be written: %s; the run goes on", NAME, reason)
        self._warned = True

    def _finish(self) -> None:
        """The last one, of all that was written down."""
        if not self.active:
            return
        self.active = False
        if self.writer is not None:
            self.writer.terminate()  # what it was about to write is old already; a file is replaced as a whole
            if not self._gone():
                self.writer.kill()
            if not self._gone():  # not even that ends it: it waits for storage, and this process would as well
                self._fail(f"process {self.writer.pid}, which was at it, does not end")
                return
            self._done(0.0)
        try:
            write_report(self.directory.path)
        except UNWRITTEN as error:
            self._fail(error)

    def _gone(self) -> bool:
        """Whether the writer has ended, or does so soon."""
        assert self.writer is not None
        try:
            self.writer.wait(_END_S)
        except subprocess.TimeoutExpired:
            return False
        return True

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """The run has ended."""
        self._finish()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """The run has ended early."""
        self._finish()

"""What a person sees on a terminal: a bar, and messages above it on lines of their own."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from pretrain import checkpoint
from pretrain.run import METRICS, RunDirectory
from tests.integration.runs import TEXT, start, wait

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def test_messages_do_not_run_into_the_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    shown = bytearray()

    def read() -> None:
        try:
            while part := os.read(master, 4096):
                shown.extend(part)
        except OSError:  # how the end of a terminal reads
            pass

    monkeypatch.setenv("PRETRAIN_TEST_STDERR", os.ttyname(slave))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    pid = start([*(one for one in TEXT if one != "logger=none"), "logger=tensorboard", f"run_dir={tmp_path / 'run'}"])
    reader = threading.Thread(target=read)
    reader.start()
    code = wait(pid)
    os.close(slave)
    reader.join(10)
    text = shown.decode()
    assert code == 0, text
    assert "step 0/12" in text
    begins = [text[: found.start()] for found in re.finditer("metrics also go to tensorboard", text)]
    assert len(begins) == 1
    # What stands before it on its line was erased, or is nothing.
    assert begins[0].endswith(("\n", "\r", "\x1b[2K")), repr(begins[0][-80:])
    assert "metrics also go to tensorboard (logger=none: nowhere else)" in _CONTROL.sub("", text)


def test_a_terminal_that_closes_loses_no_step(tmp_path: Path) -> None:
    """Its end reaches the loader's workers as well, and there is nobody left to tell."""
    run = tmp_path / "run"
    more = ["max_steps=100000", "checkpoint.every_n_steps=100000", "evaluate.every_n_steps=100000", "loader.workers=1"]
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever started the tests may have said nohup
        os.execv(sys.executable, [sys.executable, "-m", "pretrain", *TEXT, *more, f"run_dir={run}"])
    while len(list(RunDirectory(str(run), rank=-1).rows(METRICS))) < 3:
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        time.sleep(0.05)
    os.close(terminal)
    assert wait(pid) == 143
    assert checkpoint.find(run).step >= 3


def test_nohup_outlives_a_terminal(tmp_path: Path) -> None:
    code = "import os, signal; from pretrain.signals import SIGNALS; SIGNALS.listen(); "
    code += "os.kill(os.getpid(), signal.SIGHUP); SIGNALS.running = True; print(SIGNALS.received)"
    for before, received in ((signal.SIG_IGN, 0), (signal.SIG_DFL, int(signal.SIGHUP))):
        done = subprocess.run(
            [sys.executable, "-c", code],
            preexec_fn=partial(signal.signal, signal.SIGHUP, before),
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(done.stdout) == received

"""What a person sees on a terminal: a bar, and messages above it on lines of their own."""

from __future__ import annotations

import os
import pty
import re
import threading
from pathlib import Path

import pytest

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

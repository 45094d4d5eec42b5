"""Rows that were cut short, and a disk that fails between two of them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from pretrain.rows import Rows


@pytest.mark.parametrize("tail", ["", '{"step": 3, "lo', "\0" * 70_000, '{"a": "' + "x" * 140_000])
def test_a_row_behind_one_that_was_cut_short_is_a_row(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "starts.jsonl"
    path.write_text('{"step": 1}\n' + tail)
    rows = Rows(path)
    rows.append({"step": 2})
    rows.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("content", ["", "no end"])
def test_a_file_without_any_whole_row_begins_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "rows.jsonl").write_text(content)
    rows = Rows(tmp_path / "rows.jsonl")
    rows.append({"step": 1})
    rows.close()
    assert (tmp_path / "rows.jsonl").read_text() == '{"step": 1}\n'


def test_the_name_of_a_new_file_is_flushed_until_that_has_worked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failure in between, a checkpoint would else rely on a file that a power loss can take away."""
    rows, real, flushed = Rows(tmp_path / "rows.jsonl"), os.fsync, []
    rows.append({"step": 1})
    failing = [OSError(errno.EIO, "the disk failed")]

    def fsync(descriptor: int) -> None:
        if failing:
            raise failing.pop()
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="the disk failed"):
        rows.secure()
    rows.secure()
    assert flushed == [str(tmp_path / "rows.jsonl"), str(tmp_path)]
    rows.close()

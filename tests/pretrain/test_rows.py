"""Rows that were cut short, and a disk that fails between two of them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

import pretrain.rows
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


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> list[OSError]:
    """Takes what the next flushes of a file fail with; each loses what was written since the last good one.

    So does the system: it tells of a page that it could not write back once, drops it, and the next flush is good.
    """
    failing: list[OSError] = []
    sizes: dict[str, int] = {}
    real = os.fsync

    def fsync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if os.path.isdir(path):
            return
        if failing:
            os.truncate(path, sizes.get(path, 0))
            raise failing.pop(0)
        real(descriptor)
        sizes[path] = os.fstat(descriptor).st_size

    monkeypatch.setattr(os, "fsync", fsync)
    return failing


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("times", [1, 3])
def test_what_a_flush_has_lost_is_written_again(
    tmp_path: Path, forgetful: list[OSError], number: int, before: int, times: int
) -> None:
    """A checkpoint would else be published ahead of its rows as soon as the next flush works."""
    rows = Rows(tmp_path / "rows.jsonl")
    for step in range(before):
        rows.append({"step": step})
    rows.secure()
    for step in range(before, 4):
        rows.append({"step": step})
    forgetful += [OSError(number, os.strerror(number))] * times
    for step in range(4, 4 + times):
        with pytest.raises(OSError, match=os.strerror(number)):
            rows.secure()
        rows.append({"step": step})
    rows.secure()
    rows.append({"step": 4 + times})
    rows.secure()
    assert steps_in(tmp_path / "rows.jsonl") == list(range(5 + times))
    rows.close()


def test_rows_that_nobody_secures_do_not_gather_in_memory(
    tmp_path: Path, forgetful: list[OSError], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pretrain.rows, "KEPT", 100)
    rows = Rows(tmp_path / "rows.jsonl")
    for step in range(200):
        if step == 50:
            forgetful.append(OSError(errno.ENOSPC, "No space left on device"))
        rows.append({"step": step})
        assert len(rows._written) <= 100
    assert "rows.jsonl' cannot be written (No space left on device); its rows wait in memory" in caplog.text
    rows.secure()
    assert steps_in(tmp_path / "rows.jsonl") == list(range(200))
    rows.close()


def test_a_file_that_lost_what_was_on_disk_gets_no_checkpoint(tmp_path: Path, forgetful: list[OSError]) -> None:
    rows, path = Rows(tmp_path / "rows.jsonl"), tmp_path / "rows.jsonl"
    rows.append({"step": 1})
    rows.secure()
    rows.append({"step": 2})
    forgetful.append(OSError(errno.EIO, "Input/output error"))
    with pytest.raises(OSError, match="Input/output error"):
        rows.secure()
    path.write_text("")
    with pytest.raises(OSError, match="it has 0 bytes, and had 12 on disk"):
        rows.secure()
    path.write_text('{"step": 1}\n')
    rows.secure()
    assert steps_in(path) == [1, 2]
    rows.close()


def steps_in(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]

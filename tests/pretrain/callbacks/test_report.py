import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from pretrain.callbacks import report
from pretrain.callbacks.report import Report
from pretrain.report.document import partial_of
from tests import processes
from tests.pretrain.report.rundir import make
from tests.processes import told

RANK_0, RANK_1 = SimpleNamespace(is_global_zero=True), SimpleNamespace(is_global_zero=False)


@pytest.fixture
def run(tmp_path):
    return SimpleNamespace(path=make(tmp_path / "run", steps=20))


def step(callback):
    callback.on_train_batch_end(RANK_0, None, None, None, 0)


def until(callback, done, seconds=60):
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        step(callback)
        time.sleep(0.02)
    assert done()


def test_a_process_of_its_own_writes_and_training_does_not_wait(run):
    callback = Report(run, every_s=0.05)
    callback.on_train_start(RANK_0, None)
    step(callback)
    assert callback.writer is None  # not due yet
    time.sleep(0.06)
    began = time.perf_counter()
    step(callback)
    assert time.perf_counter() - began < 5
    assert callback.writer.pid != os.getpid()
    until(callback, lambda: callback.written == 1)
    assert (run.path / "report.html").stat().st_size > 10_000
    # Its time is at most half a percent: what it cost decides when the next one may begin.
    assert callback.cost > 0
    assert callback._due - callback._began == pytest.approx(callback.cost / report.SHARE)
    step(callback)
    assert callback.writer is None


def test_at_the_end_it_is_written_once_more_whatever_is_under_way(run):
    callback = Report(run, every_s=0.001)
    callback.on_train_start(RANK_0, None)
    time.sleep(0.01)
    step(callback)
    writer = callback.writer
    callback.on_exception(RANK_0, None, KeyboardInterrupt())
    assert writer.returncode is not None
    changed = (run.path / "report.html").stat().st_mtime_ns
    callback.teardown(RANK_0, None, "fit")
    assert (run.path / "report.html").stat().st_mtime_ns == changed


def test_a_writer_that_does_not_end_keeps_nobody(run, monkeypatch, caplog):
    monkeypatch.setattr(report, "_END_S", 0.3)
    callback = Report(run)
    callback.on_train_start(RANK_0, None)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    callback.writer = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    callback.writer.stdout.readline()
    writer = callback.writer
    callback.on_exception(RANK_0, None, KeyboardInterrupt())
    assert writer.returncode == -signal.SIGKILL
    assert (run.path / "report.html").exists()
    writer.stdout.close()


@pytest.mark.parametrize(("trainer", "enabled"), [(RANK_1, True), (RANK_0, False)])
def test_no_other_process_writes_and_none_where_it_is_off(run, trainer, enabled):
    callback = Report(run, enabled, every_s=0.001)
    callback.on_train_start(trainer, None)
    time.sleep(0.01)
    step(callback)
    callback.teardown(trainer, None, "fit")
    assert callback.writer is None
    assert not (run.path / "report.html").exists()


def test_what_cannot_be_written_is_one_warning(run, caplog):
    (run.path / "config.yaml").unlink()
    callback = Report(run, every_s=0.01)
    callback.on_train_start(RANK_0, None)
    time.sleep(0.02)
    step(callback)
    until(callback, lambda: callback.writer is None)
    callback.teardown(RANK_0, None, "fit")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "report.html cannot be written: exit code 2" in caplog.text


def test_rows_that_are_none_do_not_end_a_run_that_is_done(run, caplog):
    (run.path / "speed.jsonl").write_text('{"step": 1, "seconds": 1.0}\n')
    callback = Report(run)
    callback.on_train_start(RANK_0, None)
    callback.teardown(RANK_0, None, "fit")
    assert "report.html cannot be written: 'samples'; the run goes on" in caplog.text
    assert not list(run.path.glob(".report*"))


def test_ctrl_c_is_not_for_the_writer_and_one_that_was_ended_is_no_failure(run, caplog):
    callback = Report(run, every_s=0.01)
    callback.on_train_start(RANK_0, None)
    time.sleep(0.02)
    step(callback)
    assert os.getsid(callback.writer.pid) != os.getsid(0)
    callback.writer.kill()
    until(callback, lambda: callback.writer is None)
    assert callback.written == 0
    assert caplog.text == ""


def test_what_a_writer_left_and_cannot_be_removed_ends_no_run(run, caplog):
    callback = Report(run, every_s=0.01)
    callback.on_train_start(RANK_0, None)
    time.sleep(0.02)
    step(callback)
    partial = partial_of(run.path / "report.html", callback.writer.pid)
    callback.writer.kill()
    callback.writer.wait()
    partial.unlink(missing_ok=True)
    (partial / "in the way").mkdir(parents=True)
    callback.teardown(RANK_0, None, "fit")
    assert "report.html cannot be written: [Errno 21] Is a directory" in caplog.text
    assert (run.path / "report.html").stat().st_size > 10_000


def test_a_writer_that_was_told_to_end_is_no_failure_and_leaves_nothing(run, caplog):
    callback = Report(run, every_s=0.01)
    callback.on_train_start(RANK_0, None)
    time.sleep(0.02)
    step(callback)
    writer = callback.writer

    def listens():
        caught = re.search(rb"SigCgt:\s*(\w+)", told(writer.pid, "status"))
        return caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1

    processes.until(listens)  # from then on it ends with a code of its own
    partial = partial_of(run.path / "report.html", writer.pid)
    partial.write_text("half of it")
    callback.teardown(RANK_0, None, "fit")
    assert writer.returncode == 143
    assert caplog.text == ""
    assert not partial.exists()
    assert (run.path / "report.html").stat().st_size > 10_000

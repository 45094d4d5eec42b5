"""Deaths in the same step are counted over processes that are really killed."""

import contextlib
import errno
import json
import os
import signal

import pytest

from data.errors import InputError, RunError
from pretrain.attempts import DEATHS, PROGRESS, Attempts
from pretrain.signals import Stopped


def attempt(folder, dies_in, how="kill", most=3, allowed=(), first=1, behind=False):
    """A process that works from step ``first`` to 9, in a fork; what kept it from beginning, or None.

    It dies in the step ``dies_in``, or when that is ``behind`` it.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            attempts = Attempts(folder, most)
            with attempts:
                attempts.begin(list(allowed), lambda step: f"the samples of {step}")
                for step in range(first, 10):
                    attempts.note(step)
                    if behind:
                        attempts.note(step, behind=True)
                    if step == dies_in and how == "kill":
                        os.kill(os.getpid(), signal.SIGKILL)
                    if step == dies_in:
                        raise {"error": RunError("no memory"), "stop": Stopped("", 15)}[how]
        except InputError as error:
            os.write(writing, str(error).encode())
        except (RunError, Stopped):
            pass
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with open(reading) as file:
        return file.read() or None


def test_the_third_death_in_a_step_is_the_last(tmp_path):
    assert [attempt(tmp_path, 7, how) for how in ("kill", "error", "kill")] == [None] * 3
    for _ in range(2):
        assert attempt(tmp_path, 7) == (
            "the run has died 3 times in step 7 (killed; RunError: no memory) and come no further; the samples of that "
            "step: the samples of 7; mend the cause, then allow_changes=[attempts]"
        )
    assert attempt(tmp_path, 7, allowed=["attempts"]) is None  # and the count begins again
    assert [attempt(tmp_path, 7), attempt(tmp_path, 7)] == [None, None]
    assert attempt(tmp_path, 7) is not None


def test_getting_further_counts_from_one(tmp_path):
    assert [attempt(tmp_path, step) for step in (7, 7, 8, 7, 7, 8)] == [None] * 6
    assert len(json.loads((tmp_path / DEATHS).read_text())) == 2


def test_a_kill_in_the_first_step_after_a_start_counts_half_and_an_error_there_whole(tmp_path):
    assert [attempt(tmp_path, 7, first=7) for _ in range(6)] == [None] * 6
    assert "has died 6 times in step 7 (killed)" in attempt(tmp_path, 7, first=7)
    other = tmp_path / "other"
    other.mkdir()
    assert [attempt(other, 7, "error", first=7) for _ in range(3)] == [None] * 3
    assert "has died 3 times in step 7 (RunError: no memory)" in attempt(other, 7, first=7)


def test_a_kill_behind_a_step_counts_half_and_blames_no_sample(tmp_path):
    """Measuring takes long: what kills a run from outside meets it there again and again."""
    assert [attempt(tmp_path, 7, behind=True) for _ in range(6)] == [None] * 6
    line = attempt(tmp_path, 7, behind=True)
    assert "has died 6 times behind step 7 (killed) and come no further; it was measuring" in line
    assert "samples of" not in line
    other = tmp_path / "other"
    other.mkdir()
    assert [attempt(other, 7, "error", behind=True) for _ in range(3)] == [None] * 3
    assert "has died 3 times behind step 7 (RunError: no memory)" in attempt(other, 7)


def test_in_a_step_and_behind_it_are_two_places(tmp_path):
    assert [attempt(tmp_path, 7, behind=behind) for behind in (False, True) * 4] == [None] * 8
    assert len(json.loads((tmp_path / DEATHS).read_text())) == 1


def test_a_start_that_is_killed_while_it_counts_counts_nothing_twice(tmp_path, monkeypatch):
    """Kill after every operation on the two files: no death more than there was."""
    for point in range(4):
        folder = tmp_path / str(point)
        folder.mkdir()
        assert attempt(folder, 7) is None

        def killed_at_the_point(real, counter, point=point):
            def operation(*arguments, **options):
                if next(counter) == point:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **options)

            return operation

        counter = iter(range(99))
        with monkeypatch.context() as patched:
            for name in ("open", "fsync", "replace", "pwrite"):
                patched.setattr(os, name, killed_at_the_point(getattr(os, name), counter))
            attempt(folder, 99)
        attempt(folder, 0, first=0)
        found = json.loads((folder / DEATHS).read_text()) if (folder / DEATHS).exists() else []
        assert len(found) <= 1


def test_a_stop_or_an_end_is_no_death(tmp_path):
    assert [attempt(tmp_path, 7, "stop") for _ in range(5)] == [None] * 5
    assert [attempt(tmp_path, 99) for _ in range(5)] == [None] * 5
    assert not (tmp_path / DEATHS).exists()


def test_a_death_before_the_first_step_says_nothing(tmp_path):
    assert [attempt(tmp_path, 0, first=0) for _ in range(5)] == [None] * 5


def test_no_limit(tmp_path):
    assert [attempt(tmp_path, 7, most=None) for _ in range(5)] == [None] * 5


@pytest.mark.parametrize("text", ["", "nonsense", "[{}]", "[1]", "{}", '[{"step": "x", "cause": 1}]'])
def test_a_count_that_cannot_be_read_stops_nobody(tmp_path, text):
    (tmp_path / DEATHS).write_text(text)
    (tmp_path / "progress").write_text(text)
    assert attempt(tmp_path, 7) is None


def test_a_disk_that_takes_no_count_stops_nobody_and_hides_no_cause(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    def work():
        with Attempts(tmp_path, 3) as attempts:
            attempts.begin([], str)
            monkeypatch.setattr(os, "pwrite", full)
            attempts.note(7)
            attempts.note(7, behind=True)
            raise RunError("no memory")

    with pytest.raises(RunError, match="no memory"):
        work()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "'progress' cannot be written: [Errno 122] Disk quota exceeded" in caplog.text


def test_other_ranks_keep_no_count(tmp_path):
    attempts = Attempts(None, 3)
    with attempts:
        attempts.begin([], str)
        attempts.note(1)
    assert not list(tmp_path.iterdir())


def test_a_cause_is_kept_without_credentials(tmp_path):
    with contextlib.suppress(RunError), Attempts(tmp_path, 3) as attempts:
        attempts.begin([], str)
        attempts.note(7)
        raise RunError("https://ann:hunter22@host/shard.tar cannot be read")
    assert "hunter22" not in (tmp_path / PROGRESS).read_text()
    assert attempt(tmp_path, 8) is None
    [death] = json.loads((tmp_path / DEATHS).read_text())
    assert death["cause"] == "RunError: https://***@host/shard.tar cannot be read"

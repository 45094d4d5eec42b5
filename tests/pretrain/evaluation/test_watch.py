import json
import os
import shutil
import signal
import time

import pytest

from data.errors import InputError
from data.store.store import Store
from pretrain.checkpoint import Damaged, Reader, directory_name
from pretrain.cli import main
from pretrain.evaluation import results
from pretrain.evaluation.subject import Subject
from pretrain.evaluation.watch import Watcher, lease
from tests.pretrain.evaluation.conftest import publish_step


@pytest.fixture
def watcher(evaluated, tmp_path):
    """make(steps) -> (directory, config, watcher)"""

    def make(steps, said=lambda step, count: None):
        import torch

        directory = evaluated(tmp_path / "run", steps)
        resolved = directory.frozen_config()
        subject = Subject(resolved, Store(), torch.device("cpu"))
        (directory.path / results.FOLDER).mkdir(exist_ok=True)
        return directory, resolved, Watcher(directory, subject, 9, every_s=0.01, patience_s=0.2, said=said)

    return make


def steps_of(directory):
    return [one["step"] for one in results.all_of(directory.path)]


def test_each_is_taken_once_the_oldest_first_until_the_last_step(watcher):
    said = []
    directory, resolved, one = watcher([3, 6], lambda step, count: said.append(step))
    publish_step(directory, resolved, 9)
    assert one.run() == 3
    assert said == [3, 6, 9]
    assert one.run() == 0
    assert steps_of(directory) == [3, 6, 9]


def test_values_of_other_evaluators_or_weights_are_no_reason_to_pass_it_over(watcher):
    directory, _, one = watcher([3])
    assert one.run() == 1
    file = results.path_of(directory.path, 3)
    written = results.read(file)
    for change in ({"evaluators": []}, {"averaged": True}):
        one.done.clear()
        one.subject.evaluators[0].name = "health"
        results.replace(file, json.dumps({**written, **change}).encode())
        assert one.run() == 1
        assert "health" in results.read(file)["evaluators"]
        assert results.read(file)["averaged"] is False
        one.done.clear()
        assert one.run() == 0
    results.replace(file, json.dumps({**written, "averaged": True}).encode())
    one.done.add(written["checkpoint"])  # two watchers that differ do not take turns for ever
    assert one.run() == 0


def test_what_another_has_done_since_one_looked_is_not_done_again(watcher):
    directory, _, one = watcher([3])
    (path,) = one.left()
    assert one._try(path)
    written = results.path_of(directory.path, 3).stat().st_mtime_ns
    assert not one._try(path)
    assert results.path_of(directory.path, 3).stat().st_mtime_ns == written


def test_it_ends_where_nobody_trains_and_nothing_is_left(watcher):
    directory, _, one = watcher([3])
    assert one.run() == 1
    assert steps_of(directory) == [3]


def test_what_another_has_taken_is_left_to_it_and_taken_over_from_the_dead(watcher):
    directory, _, one = watcher([3, 6])
    lock = directory.path / results.FOLDER / ".step-00000003.lock"
    reading, writing = os.pipe()
    other = os.fork()
    if not other:
        with lease(lock) as own:
            os.write(writing, b"1" if own else b"0")
            time.sleep(60)
        os._exit(0)
    assert os.read(reading, 1) == b"1"
    assert [one._try(path) for path in one.left()] == [False, True]
    assert steps_of(directory) == [6]
    assert not one.over()
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    assert one.run() == 1
    assert steps_of(directory) == [3, 6]


def test_a_checkpoint_that_is_pruned_meanwhile_is_passed_over(watcher, monkeypatch):
    directory, _, one = watcher([3, 6])
    first, second = one.left()
    shutil.rmtree(first)
    assert not one._try(first)
    take = one.subject.take

    def pruned(reader):
        shutil.rmtree(reader.path)
        take(reader)

    # What was opened before it went is read to its end: nothing is waited for, nothing is kept.
    monkeypatch.setattr(one.subject, "take", pruned)
    assert one._try(second)
    assert not second.exists()
    assert not any("step-00000006" in os.readlink(f"/proc/self/fd/{fd}") for fd in open_files())
    assert steps_of(directory) == [6]


def open_files():
    return [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]


def test_a_damaged_one_is_said_and_passed_over(watcher):
    directory, _, one = watcher([3, 6])
    file = directory.checkpoints / directory_name(3) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"beef")
    with pytest.raises(Damaged):
        Reader(file.parent)
    assert one.run() == 1
    assert steps_of(directory) == [6]
    assert list(one.passed.values())


def test_other_weights_of_the_same_step_are_another_checkpoint(watcher):
    directory, resolved, one = watcher([3])
    assert one.run() == 1
    before = results.read(results.path_of(directory.path, 3))
    shutil.rmtree(directory.checkpoints / directory_name(3))
    publish_step(directory, {**resolved, "seed": 5}, 3)
    assert one.run() == 1
    after = results.read(results.path_of(directory.path, 3))
    assert before["checkpoint"] != after["checkpoint"]


def test_weights_of_another_model_are_refused(watcher):
    directory, resolved, one = watcher([3])
    resolved["encoders"]["text"]["width"] = 24
    resolved["tasks"]["mlm"]["objective"]["width"] = 24
    publish_step(directory, resolved, 6)
    with pytest.raises(InputError, match="is of another model: it differs in"):
        one.run()


def test_the_verb_watches(evaluated, tmp_path, capsys):
    directory = evaluated(tmp_path / "run", [3, 9])
    given = ["evaluate", str(tmp_path / "run"), "watch=true", "--every", "0.05", "--patience", "0.2"]
    assert main(given) == 0
    assert "2 checkpoints evaluated by this process" in capsys.readouterr().out
    assert steps_of(directory) == [3, 9]
    assert main(["evaluate", str(tmp_path / "none"), "watch=true", "--every", "0.05", "--patience", "0.1"]) == 2
    assert "has no checkpoint, and nobody trains there" in capsys.readouterr().err

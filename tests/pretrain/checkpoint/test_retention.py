"""Which checkpoints stay, and which go."""

import pytest
import torch

from data.errors import InputError
from pretrain import checkpoint
from pretrain.checkpoint import Content, Retention, retention, verify
from pretrain.checkpoint.preflight import preflight
from pretrain.checkpoint.retention import retention_of


def save(root, step, **held_out):
    facts = {"step": step, "positions": {"t": step}, "schedule": {"name": "Constant"}, "held_out": held_out}
    return checkpoint.publish(root, Content({"w": torch.full((4,), float(step))}, {}, facts, {}))


def spoil(path):
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def steps(root):
    return [checkpoint.step_of(path) for path in checkpoint.published(root)]


def test_last_every_and_best_together(tmp_path):
    losses = {1: 5.0, 2: 1.0, 3: 4.0, 4: 9.0, 5: 1.5, 6: 7.0, 7: 8.0, 8: 9.5, 9: None, 10: 9.9}
    for step, loss in losses.items():
        save(tmp_path, step, **({} if loss is None else {"loss": loss, "recall": loss}))
    best = Retention(2, every_n_steps=4, best=2, metric="loss")
    assert checkpoint.prune(tmp_path, best, dry=True) == [tmp_path / f"step-0000000{n}" for n in (7, 6, 3, 1)]
    assert steps(tmp_path) == [*range(10, 0, -1)]
    checkpoint.prune(tmp_path, best)
    assert steps(tmp_path) == [10, 9, 8, 5, 4, 2]
    checkpoint.prune(tmp_path, Retention(1, best=1, metric="recall", mode="max"))
    assert steps(tmp_path) == [10]
    assert checkpoint.prune(tmp_path, Retention(1)) == []


def test_those_that_a_signal_saved_take_the_place_of_no_regular_one(tmp_path):
    for step in (5, 10, 15, 18, 19):
        save(tmp_path, step)
    checkpoint.prune(tmp_path, Retention(2, regular=5, regular_last=2))
    assert steps(tmp_path) == [19, 18, 15, 10]
    save(tmp_path, 20)
    checkpoint.prune(tmp_path, Retention(2, regular=5, regular_last=2))
    assert steps(tmp_path) == [20, 19, 15]
    checkpoint.prune(tmp_path, Retention(2))
    assert steps(tmp_path) == [20, 19]


def test_only_sound_ones_count(tmp_path):
    for step in range(1, 7):
        save(tmp_path, step, loss=float(step))
    for step in (1, 5, 6):
        spoil(tmp_path / checkpoint.directory_name(step))
    checkpoint.prune(tmp_path, Retention(1, best=1, metric="loss"))
    assert steps(tmp_path) == [6, 5, 4, 2]  # 1 is best but damaged; 6 and 5 stay as evidence


def test_no_old_one_is_read_twice_or_for_nothing(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(retention, "verify", lambda path: read.append(checkpoint.step_of(path)) or verify(path))
    for step in range(1, 6):
        save(tmp_path, step, loss=float(step))
    known = {"step-00000005"}
    keep = Retention(1, best=2, metric="loss")
    checkpoint.prune(tmp_path, keep, known)
    assert read == [1, 2]
    assert known == {f"step-0000000{step}" for step in (1, 2, 5)}
    save(tmp_path, 6, loss=6.0)
    known.add("step-00000006")
    checkpoint.prune(tmp_path, keep, known)
    assert read == [1, 2]
    assert steps(tmp_path) == [6, 2, 1]


def test_of_equal_ones_the_newer_is_better(tmp_path):
    for step in range(1, 5):
        save(tmp_path, step, loss=1.0 if step < 3 else 2.0)
    checkpoint.prune(tmp_path, Retention(1, best=1, metric="loss"))
    assert steps(tmp_path) == [4, 2]


def test_the_last_sound_one_never_goes(tmp_path):
    for step in range(1, 5):
        save(tmp_path, step)
    for step in (2, 3, 4):
        spoil(tmp_path / checkpoint.directory_name(step))
    assert checkpoint.prune(tmp_path, Retention(0)) == []
    assert checkpoint.find(tmp_path).step == 1


def test_a_course_that_is_given_up(tmp_path):
    for step in range(1, 6):
        save(tmp_path, step)
    assert [checkpoint.step_of(p) for p in checkpoint.withdraw(tmp_path, 3)] == [5, 4]
    assert steps(tmp_path) == [3, 2, 1]
    assert (tmp_path / "last").read_text() == "step-00000003\n"
    assert checkpoint.withdraw(tmp_path, 3) == []


def test_what_config_says(tmp_path):
    options = {"keep_last": 3, "keep_every_n_steps": None, "keep_best": {"count": 0, "metric": "x", "mode": "min"}}
    assert retention_of(options) == Retention(3)
    for back, stay in ((1, 3), (14, 3), (15, 4), (70, 11)):  # of the last, one lies so many steps back
        found = retention_of(options | {"every_n_steps": 7}, rewinds_by=back)
        assert found == Retention(3, regular=7, regular_last=stay)
    best = {"count": 2, "metric": "mlm/loss", "mode": "max"}
    assert retention_of(options | {"keep_best": best}) == Retention(3, None, 2, "mlm/loss", "max")
    with pytest.raises(InputError, match="needs a held-out metric"):
        retention_of(options | {"keep_best": best | {"metric": None}})
    with pytest.raises(InputError, match="mode is 'least'; choices: max, min"):
        retention_of(options | {"keep_best": best | {"mode": "least"}})


def test_room_for_what_is_kept_and_one_more(tmp_path):
    root = tmp_path / "run/checkpoints"
    preflight(root, Retention(2), 1000)
    assert list(root.iterdir()) == []
    with pytest.raises(InputError, match=r"free, but 4e\+03 TB are needed: checkpoints of 1e\+03 TB, of which 3 are"):
        preflight(root, Retention(2, best=1, metric="loss"), 10**15)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"checkpoints cannot be written to '.*': File exists"):
        preflight(tmp_path / "file/checkpoints", Retention(2), 1)

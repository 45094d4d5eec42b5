"""What a mirror takes from a run's files: rows that stand, each once, and anew where they were withdrawn."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from data.errors import InputError, RunError
from pretrain import config
from pretrain.trackers.delivered import Delivered
from pretrain.trackers.mirror import Mirror, names_of, trackers_of
from pretrain.trackers.settled import Settled, WithdrawnError, last_settled
from pretrain.trackers.tracker import Tracker, TrackerError

LOGIN = "machine api.wandb.ai login user password k"


class Lines(Tracker):
    """A tracker whose segments are text files; it may leave after some rows."""

    key, answers = "lines", False

    def __init__(self, folder: Path, leaves_after: int = 10**9) -> None:
        self.folder, self.leaves_after = folder, leaves_after
        folder.mkdir(exist_ok=True)

    def has(self, delivered: Delivered) -> bool:
        return all((self.folder / name).exists() for name in delivered.segments)

    def begin(self, delivered: Delivered, patience_s: float) -> int:
        for left in self.folder.iterdir():
            if left.name not in delivered.segments:
                left.unlink()
        self.own = self.folder / f"{delivered.history}-{len(delivered.segments)}"
        return delivered.step

    def send(self, step: int, values: Mapping[str, float]) -> None:
        self.leaves_after -= 1
        if self.leaves_after < 0:
            raise TrackerError("it left")
        with open(self.own, "a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def finish(self) -> str:
        return self.own.name

    def rows(self) -> list[dict]:
        files = sorted(self.folder.iterdir())
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def write(run: Path, losses: Mapping[int, float], saved: int, name: str = "metrics") -> None:
    """Puts the rows in place of those before, as going back does, and a checkpoint of step ``saved`` as the newest."""
    part = run / ".part"
    part.write_text("".join(json.dumps({"step": step, "loss": loss}) + "\n" for step, loss in losses.items()))
    part.rename(run / f"{name}.jsonl")
    for old in run.glob("checkpoints/*"):
        old.rmdir()
    (run / f"checkpoints/step-{saved:08d}").mkdir(parents=True)


def mirror(run: Path, tracker: Tracker) -> Mirror:
    ending = threading.Event()
    ending.set()
    found = Mirror(run, tracker, 1.0)
    found.run(ending, wait=False)
    return found


def test_rows_beyond_the_newest_checkpoint_wait(tmp_path: Path) -> None:
    tracker = Lines(tmp_path / "lines")
    write(tmp_path, dict.fromkeys(range(1, 9), 0.5), saved=6)
    assert last_settled(tmp_path) == 6
    assert mirror(tmp_path, tracker).sent == 6
    write(tmp_path, dict.fromkeys(range(1, 6), 0.5) | {6: 0.5, 7: 3.0, 8: 4.0}, saved=8)
    assert mirror(tmp_path, tracker).sent == 2
    assert [row["loss"] for row in tracker.rows()] == [0.5] * 6 + [3.0, 4.0]
    assert Delivered.read(tmp_path, "lines").history == 1


def test_without_locks_rows_are_delivered_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = Lines(tmp_path / "lines")
    write(tmp_path, dict.fromkeys(range(1, 9), 0.5), saved=6)
    (tmp_path / "trackers").mkdir()
    lock = os.open(tmp_path / "trackers/lines.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(RunError, match="another process mirrors"):
        mirror(tmp_path, tracker)
    os.close(lock)

    def no_locks(*arguments: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(logging.getLogger("pretrain"), "propagate", True)
    assert mirror(tmp_path, tracker).sent == 6
    assert "has no locks (Function not implemented): nothing keeps a second process from mirroring" in caplog.text


def test_a_row_that_is_being_written_waits(tmp_path: Path) -> None:
    write(tmp_path, {1: 0.5, 2: 0.25}, saved=3)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "lo')
        file.flush()
        settled = Settled(tmp_path, Delivered())
        assert [step for step, _ in settled.rows()] == [1, 2]
        file.write('ss": 0.125}\n')
    assert list(settled.rows()) == [(3, {"loss": 0.125})]


def test_times_and_events_join_the_row_of_their_step(tmp_path: Path) -> None:
    write(tmp_path, {2: 0.5, 4: 0.25}, saved=4)
    (tmp_path / "speed.jsonl").write_text('{"step": 2, "seconds": 7.0}\n{"step": 4, "seconds": 8.0}\n')
    events = [{"step": 1, "event": "spike"}, {"step": 2, "event": "spike"}, {"step": 4, "event": "jump", "secret": "x"}]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    assert list(Settled(tmp_path, Delivered()).rows()) == [
        (2, {"loss": 0.5, "speed/seconds": 7.0, "events/spike": 2}),
        (4, {"loss": 0.25, "speed/seconds": 8.0, "events/jump": 1}),
    ]


def test_what_a_service_that_left_had_taken_is_written_again(tmp_path: Path) -> None:
    write(tmp_path, {step: step / 8 for step in range(1, 9)}, saved=8)
    with pytest.raises(TrackerError, match="it left"):
        mirror(tmp_path, Lines(tmp_path / "lines", leaves_after=5))
    assert len(Lines(tmp_path / "lines").rows()) == 5
    tracker = Lines(tmp_path / "lines")
    assert mirror(tmp_path, tracker).step == 8
    assert [row["step"] for row in tracker.rows()] == list(range(1, 9))


def test_what_somebody_has_removed_is_written_again(tmp_path: Path) -> None:
    tracker = Lines(tmp_path / "lines")
    for steps in (3, 6):
        write(tmp_path, dict.fromkeys(range(1, steps + 1), 0.5), saved=steps)
        mirror(tmp_path, tracker)
    assert mirror(tmp_path, tracker).sent == 0
    next(iter(sorted(tracker.folder.iterdir()))).unlink()
    assert mirror(tmp_path, tracker).sent == 6
    assert [row["step"] for row in tracker.rows()] == list(range(1, 7))


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    write(tmp_path, {1: 0.5}, saved=1)
    (tmp_path / "trackers").write_text("")
    with pytest.raises(RunError, match="trackers': File exists"):
        mirror(tmp_path, Lines(tmp_path / "lines"))


def test_withdrawn_rows_are_told_anew_once_the_run_is_there_again(tmp_path: Path) -> None:
    tracker = Lines(tmp_path / "lines")
    write(tmp_path, dict.fromkeys(range(1, 7), 0.5), saved=6)
    mirror(tmp_path, tracker)
    write(tmp_path, dict.fromkeys(range(1, 6), 0.5), saved=3)
    assert mirror(tmp_path, tracker).sent == 0  # the same rows may come again
    write(tmp_path, dict.fromkeys(range(1, 4), 0.5) | {4: 9.0, 5: 8.0, 6: 7.0}, saved=6)
    assert mirror(tmp_path, tracker).sent == 6
    assert [row["loss"] for row in tracker.rows()] == [0.5] * 3 + [9.0, 8.0, 7.0]
    assert Delivered.read(tmp_path, "lines").history == 2


def test_equal_rows_that_come_again_are_no_others(tmp_path: Path) -> None:
    tracker = Lines(tmp_path / "lines")
    for saved, sent in ((6, 6), (3, 0), (6, 0), (7, 1)):
        write(tmp_path, dict.fromkeys(range(1, saved + 1), 0.5), saved)
        assert mirror(tmp_path, tracker).sent == sent
    assert [row["step"] for row in tracker.rows()] == list(range(1, 8))


def test_going_back_is_noticed_while_it_is_followed(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(range(1, 7), 0.5), saved=6)
    settled = Settled(tmp_path, Delivered())
    assert len(list(settled.rows())) == 6
    write(tmp_path, dict.fromkeys(range(1, 4), 0.5), saved=3)
    assert list(settled.rows()) == []
    write(tmp_path, dict.fromkeys(range(1, 4), 0.5) | dict.fromkeys(range(4, 9), 2.0), saved=8)
    with pytest.raises(WithdrawnError):
        list(settled.rows())


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    node = {"_target_": "pretrain.trackers.weights_and_biases.WeightsAndBiases", "project": "p", "mode": "of"}
    with pytest.raises(InputError, match=r"logger\.wandb: mode 'of' is unknown; .*offline"):
        trackers_of({"logger": {"wandb": node}}, tmp_path)
    with pytest.raises(InputError, match=r"logger\.x\._target_ .* is no tracker"):
        trackers_of({"logger": {"x": {"_target_": "torch.nn.ReLU"}}}, tmp_path)
    (tmp_path / "trackers").mkdir()
    (tmp_path / "trackers/lines.json").write_text("{")
    with pytest.raises(InputError, match=r"lines\.json' does not say"):
        Delivered.read(tmp_path, "lines")


@pytest.mark.parametrize(
    ("said", "names", "mode"),
    [
        ({}, ["tensorboard"], None),
        ({"WANDB_API_KEY": "k"}, ["tensorboard", "wandb"], "online"),
        ({"NETRC": LOGIN}, ["tensorboard", "wandb"], "online"),
        ({"NETRC": LOGIN, "WANDB_BASE_URL": "https://own"}, ["tensorboard"], None),
        ({"NETRC": "no such word"}, ["tensorboard"], None),
        ({"WANDB_API_KEY": "k", "WANDB_MODE": "disabled"}, ["tensorboard"], None),
        ({"WANDB_MODE": "offline"}, ["tensorboard", "wandb"], "offline"),
    ],
)
def test_a_run_that_asks_for_none_has_tensorboard_and_wandb_where_one_is_logged_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, str], names: list[str], mode: str | None
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").write_text(said.get("NETRC", ""))
    for name, value in {**said, "NETRC": str(tmp_path / "netrc")}.items():
        monkeypatch.setenv(name, value)
    composed = config.load(["experiment=mlm_tiny"])
    assert names_of(composed, tmp_path) == names
    if mode is not None:
        assert trackers_of(composed, tmp_path)["wandb"].key == f"wandb-{mode}"
    assert names_of(config.load(["experiment=mlm_tiny", "logger=none"]), tmp_path) == []

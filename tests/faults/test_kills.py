"""Kills, signals and other numbers of processes leave no trace; ``scripts/kill_test.py`` does it by hundreds."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from pretrain import checkpoint
from pretrain.ledger import computed, recorded, streams_of
from pretrain.run import RunDirectory
from tests.faults.campaign import (
    Tally,
    codes_of,
    kill_all,
    killed_until_done,
    over,
    phases_marked,
    signalled_until_done,
    steps_of,
)
from tests.faults.recipes import NAMES, PATIENCE, STEPS, recipe
from tests.integration.ranks import start_together
from tests.integration.runs import outcome, run


def straight(folder: Path, command: list[str], world_size: int = 1) -> tuple[float, object]:
    """Seconds and outcome of the run that nobody hits."""
    began = time.monotonic()
    assert set(codes_of(start_together(world_size, [*command, f"run_dir={folder / 'straight'}"]))) == {0}
    return time.monotonic() - began, outcome(folder / "straight")


@pytest.mark.parametrize(
    ("name", "hits"),
    [("mlm_tiny", 2), *(pytest.param(name, 20, marks=pytest.mark.slow) for name in NAMES)],
)
def test_random_kills(tmp_path: Path, name: str, hits: int) -> None:
    length, twin = straight(tmp_path, recipe(name))
    tally, rng, number = Tally(), random.Random(name), 0
    with phases_marked():
        while tally.hits < hits:
            number += 1
            killed_until_done(recipe(name), tmp_path / str(number), twin, rng, tally, 0.6 * length)
    assert not tally.wrong
    assert tally.whole == number


@pytest.mark.parametrize("hits", [2, pytest.param(100, marks=pytest.mark.slow)])
def test_random_signals(tmp_path: Path, hits: int) -> None:
    command = recipe("mlm_tiny")
    length, twin = straight(tmp_path, command)
    tally, rng, number = Tally(), random.Random(hits), 0
    with phases_marked():
        while tally.hits < hits:
            number += 1
            signalled_until_done(command, tmp_path / str(number), twin, rng, tally, 0.6 * length)
    assert not tally.wrong
    assert tally.whole == number


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_random_kills_of_two_processes(tmp_path: Path, strategy: str) -> None:
    command = [*recipe("mlm_tiny"), f"trainer.strategy={strategy}", *PATIENCE]
    length, twin = straight(tmp_path, command, 2)
    tally, rng, number = Tally(), random.Random(strategy), 0
    while tally.hits < 20:
        number += 1
        killed_until_done(command, tmp_path / str(number), twin, rng, tally, 0.8 * length, (2,))
    assert not tally.wrong


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["mlm_tiny", "grounded_tiny"])
def test_a_run_continued_from_any_step_is_the_same(tmp_path: Path, name: str) -> None:
    """With dropout, augmentation, two workers, measurements and averaged weights; a checkpoint at every step."""
    every = [*recipe(name), "checkpoint.every_n_steps=1", "checkpoint.keep_last=100"]
    assert run([*every, f"run_dir={tmp_path / 'straight'}"]) == 0
    twin = checkpoint.digest(checkpoint.find(tmp_path / "straight"))
    rows = (tmp_path / "straight/metrics.jsonl").read_bytes().splitlines()
    for step in range(1, STEPS):
        begun = tmp_path / "straight/checkpoints" / checkpoint.directory_name(step)
        again = [*recipe(name), f"resume={begun}", f"run_dir={tmp_path / str(step)}", "checkpoint.every_n_steps=1000"]
        assert run(again) == 0
        assert checkpoint.digest(checkpoint.find(tmp_path / str(step))) == twin, f"from step {step} on"
        assert (tmp_path / str(step) / "metrics.jsonl").read_bytes().splitlines() == rows[step:], f"from step {step} on"


@pytest.mark.parametrize("hits", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_every_sample_once_an_epoch_however_often_and_by_how_many_it_was_done(tmp_path: Path, hits: int) -> None:
    command = [*recipe("mlm_tiny"), *PATIENCE, f"run_dir={tmp_path / 'run'}"]
    command += [f"max_steps={60 if hits < 10 else 400}", "checkpoint.every_n_steps=3"]
    rng, hit, sizes = random.Random(0), 0, []
    while True:
        sizes.append((1, 2, 4)[len(sizes) % 3])
        pids = start_together(sizes[-1], command)
        before = max(steps_of(tmp_path / "run"), default=0)
        aim = before + rng.randint(2, 12)
        while not over(pids) and max(steps_of(tmp_path / "run"), default=0) < aim and hit < hits:
            time.sleep(0.005)
        if hit < hits and not over(pids):
            kill_all(pids if rng.random() < 0.5 else [rng.choice(pids)])
        codes = codes_of(pids, 240)
        if set(codes) == {0}:
            break
        hit += 1
    assert hit >= hits
    directory = RunDirectory(str(tmp_path / "run"), rank=-1)
    rows = list(recorded(directory, 1, 10**9))
    assert rows == list(computed(directory, 1, 10**9))
    sources = streams_of(directory)["mlm"].sources
    drawn = [Counter(dict.fromkeys(range(len(source)), 0)) for source in sources]
    for row in rows:
        for source, number in row["places"]:
            drawn[source][number] += 1
        # Of each source nothing a second time before all of it once, however the run came here.
        assert all(max(counts.values()) - min(counts.values()) <= 1 for counts in drawn)
    assert any(min(counts.values()) >= 2 for counts in drawn), "no epoch was seen to its end"

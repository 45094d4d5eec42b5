"""A sample that kills the process: the third death in its step is the last, and names it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from modalities.text.masked_lm import MaskedText
from pretrain import module
from pretrain.callbacks import evaluation
from tests.faults.campaign import newest_step
from tests.faults.recipes import recipe
from tests.integration.runs import run, start, wait

# Who is killed in step 10 has saved step 7, on a slow disk as well.
COMMAND = [*recipe("mlm_tiny"), "max_steps=20", "loader.workers=0", "checkpoint.asynchronous=false"]


def test_three_deaths_in_a_step_name_its_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command, step = [*COMMAND, f"run_dir={tmp_path / 'run'}"], module.Pretraining.training_step

    def deadly(self: module.Pretraining, batch: object, index: int) -> None:
        if self.steps_done == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        step(self, batch, index)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(module.Pretraining, "training_step", deadly)
        assert [wait(start(command)) for _ in range(3)] == [-signal.SIGKILL] * 3
        assert run(command) == 2
    line = (tmp_path / "stderr").read_text().splitlines()[-1]
    assert "the run has died 3 times in step 10 (killed) and come no further" in line
    assert "mlm from position 36 on: '" in line
    assert ".tar" in line
    assert "allow_changes=[attempts]" in line
    assert run(command) == 2  # nobody who merely tries again gets past it
    assert newest_step(tmp_path / "run") == 7
    assert run([*command, "allow_changes=[attempts]"]) == 0
    assert newest_step(tmp_path / "run") == 20


@pytest.mark.parametrize(
    ("fatal", "deaths", "step"),
    # Four are tried before the first step, two of them again for a step on the smallest shapes. Who dies in the first
    # step may have died by chance: half a death.
    [(4 + 2 + 4 * 3 + 2, 3, 4), (2, 6, 1)],
)
def test_deaths_in_a_sample_that_is_being_prepared_count_for_the_step_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fatal: int, deaths: int, step: int
) -> None:
    command, prepare, count = [*COMMAND, f"run_dir={tmp_path / 'run'}"], MaskedText.__call__, 0

    def deadly(self: MaskedText, sample: object, rng: object, training: bool) -> object:
        nonlocal count
        count += training
        if count == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return prepare(self, sample, rng, training)  # type: ignore[arg-type]

    monkeypatch.setattr(MaskedText, "__call__", deadly)
    assert [wait(start(command)) for _ in range(deaths)] == [-signal.SIGKILL] * deaths
    assert run(command) == 2
    assert f"the run has died {deaths} times in step {step} (killed)" in (tmp_path / "stderr").read_text()


def test_deaths_while_measuring_count_half_and_blame_no_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [*COMMAND, "max_steps=16", f"run_dir={tmp_path / 'run'}"]

    def deadly(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "measure", deadly)
        assert [wait(start(command)) for _ in range(6)] == [-signal.SIGKILL] * 6
        assert run(command) == 2
    line = (tmp_path / "stderr").read_text().splitlines()[-1]
    assert "the run has died 6 times behind step 15 (killed) and come no further" in line
    assert "no sample is blamed" in line
    assert run([*command, "allow_changes=[attempts]"]) == 0

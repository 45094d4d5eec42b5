"""Going back is completed after a kill, and what is damaged has no say in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pretrain import checkpoint
from pretrain.checkpoint.content import Content
from pretrain.run import RunDirectory
from pretrain.soundness import decisions

BACK = {"step": 3, "back": True, "jumps": {"mlm": 40}, "cause": {}}


def run_of(folder: Path, taken: dict[int, list[decisions.Decision]]) -> RunDirectory:
    """A run that went back, with checkpoints of these steps that say which decisions were taken."""
    directory = RunDirectory(str(folder), rank=-1)
    for step, known in taken.items():
        state = {"step": step, "positions": {}, "schedule": {}, "decisions": known}
        checkpoint.publish(directory.checkpoints, Content({"w": torch.ones(2)}, {}, state))
    decisions.keep(directory, [BACK])
    return directory


def steps(directory: RunDirectory) -> list[int]:
    return [checkpoint.step_of(path) for path in checkpoint.published(directory.checkpoints)]


def test_a_course_turned_back_from_goes(tmp_path: Path) -> None:
    directory = run_of(tmp_path / "run", {3: [], 6: [], 9: []})
    decisions.finish(directory)
    assert steps(directory) == [3]


@pytest.mark.parametrize("text", ["40", "["])  # another decision; no JSON
def test_a_damaged_checkpoint_does_not_take_sound_ones_with_it(tmp_path: Path, text: str) -> None:
    directory = run_of(tmp_path / "run", {3: [], 6: [BACK], 9: [BACK]})
    state = directory.checkpoints / "step-00000009/state.json"
    damaged = state.read_text().replace("40", "41") if text == "40" else text * 100_000
    state.write_text(damaged)
    decisions.finish(directory)
    assert steps(directory) == [9, 6, 3]

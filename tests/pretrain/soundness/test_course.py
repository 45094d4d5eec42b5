"""Positions around a jump: what a device's late reading of an earlier step is told about."""

from __future__ import annotations

from types import SimpleNamespace

from pretrain.run import RunDirectory
from pretrain.soundness.course import Course
from pretrain.start import Start


def test_steps_before_a_jump_keep_their_positions(tmp_path):
    """On CUDA the numbers of the step before a jump are read after it, and their samples are named by it."""
    decision = {"step": 3, "back": False, "jumps": {"mlm": 100}, "cause": {}}
    module = SimpleNamespace(steps_done=0, start=Start(0, {"mlm": 0}, decisions=[decision]))
    seen = []

    def open_loader(start):
        for step in range(start.step, 5):
            yield start.position("mlm", step, 8)

    for position in Course(module, open_loader, 5, 5, {"mlm": 8}, RunDirectory(str(tmp_path / "run"))):
        seen.append(position)
        module.steps_done += 1
    assert seen == [0, 8, 16, 124, 132]
    assert [module.start.position("mlm", step, 8) for step in range(5)] == seen

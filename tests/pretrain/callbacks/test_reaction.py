"""What going back leaves out, where samples were left out before."""

from types import SimpleNamespace

import pytest

from pretrain.callbacks.reaction import Reaction
from pretrain.run import RunDirectory
from pretrain.soundness import decisions
from pretrain.start import Start

BATCH, BEYOND = 4, 2


def gone_back(step, batches):
    return {"step": step, "back": True, "jumps": {"t": batches * BATCH}, "cause": {}}


@pytest.mark.parametrize(
    ("taken", "first"),
    [
        ([], 14),
        ([gone_back(10, 6)], 14 + 6),  # undone with the steps behind 5: its samples are left out again
        ([gone_back(5, 3)], 14 + 3),  # stands, and is added to
        ([gone_back(5, 3), gone_back(10, 6)], 14 + 3 + 6),
    ],
)
def test_it_goes_on_behind_the_sick_step_whatever_was_left_out_before(tmp_path, taken, first):
    """Step 14 is sick, and the checkpoint of step 5 is gone back to."""
    directory = RunDirectory(str(tmp_path / "run"), rank=0)
    decisions.keep(directory, taken)
    start = Start(0, {"t": 0})
    for row in taken:  # as pretrain/soundness/course.py goes on behind each
        position = start.position("t", row["step"], BATCH) + row["jumps"]["t"]
        start = Start(row["step"], {"t": position}, before=start)
    reaction = Reaction(
        SimpleNamespace(code=None, batch_sizes={"t": BATCH}),
        SimpleNamespace(offer=lambda name, code: None),
        *(None, None),
        directory,
        steps_back=3,
        skip_beyond=BEYOND,
        at_most=9,
    )
    found = SimpleNamespace(step=5, state={"positions": {"t": 5 * BATCH}})
    jumps = reaction._past(SimpleNamespace(start=start), found, 14)
    decisions.keep(directory, [*taken, {"step": 5, "back": True, "jumps": jumps, "cause": {}}])
    after = decisions.jumps(decisions.holding(decisions.read(directory)), 5)["t"]
    assert 5 * BATCH + after == (first + BEYOND) * BATCH

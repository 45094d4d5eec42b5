"""Every file-system operation of saving, keeping and giving up checkpoints, as the last one before a crash."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pretrain import checkpoint
from pretrain.checkpoint import Content, Piece, Reader, Retention
from pretrain.checkpoint.peers import Peers
from pretrain.checkpoint.plan import layout_of, share_of
from pretrain.checkpoint.saver import Saver
from pretrain.checkpoint.writing import as_json, commit, part_folder, write_share
from pretrain.rows import Rows
from pretrain.run import RunDirectory
from pretrain.soundness import decisions
from tests.crash.filesystem import Disk, Recorder, read_tree, write_tree

KEEP = Retention(2, every_n_steps=4, best=1, metric="loss")
# The first goes ahead; the second turns back, to a step that is put in.
DECISIONS: list[dict[str, Any]] = [
    {"step": 0, "back": False, "jumps": {"t": 8}, "cause": {"event": "spike"}},
    {"step": 0, "back": True, "jumps": {"t": 16}, "cause": {"event": "nonfinite"}},
]


@dataclass(frozen=True)
class Decided:
    """What was promised: a checkpoint of at least ``step``, and so many of :data:`DECISIONS`."""

    step: int = 0
    decisions: int = 0


def weights(step: int) -> dict[str, torch.Tensor]:
    return {"w": torch.full((3, 2), float(step)), "b": torch.arange(4.0) + step}


def facts(step: int) -> dict:
    schedule = {"name": "Constant"}
    return {"step": step, "positions": {"t": 8 * step}, "schedule": schedule, "held_out": {"loss": abs(step - 3)}}


def content(step: int) -> Content:
    return Content(weights(step), {"w/exp_avg": weights(step)["w"] / 2}, facts(step), {})


def state(step: int) -> dict[str, dict[str, Piece]]:
    one = content(step)
    return {
        "model": {n: Piece.whole(t) for n, t in one.model.items()},
        "optimizer": {n: Piece.whole(t) for n, t in one.optimizer.items()},
        "ema": {},
    }


def beside_training(run: Path, recorder: Recorder, steps: int) -> None:
    """Steps with rows, a save after each that is taken while the next one goes on, and retention."""
    rows, root = Rows(run / "metrics.jsonl"), run / "checkpoints"

    sound: set[str] = set()

    def published(path: Path) -> None:
        sound.add(path.name)
        checkpoint.mark(root)

    def tidy() -> None:
        checkpoint.prune(root, KEEP, sound)

    saver, live = Saver(root, Peers(), rows.secure, lambda copies, step: None, published, tidy), state(0)
    for step in range(1, steps + 1):
        for kind, pieces in state(step).items():  # in place, as training does, while the last save is under way
            for name, piece in pieces.items():
                live[kind][name].tensor.copy_(piece.tensor)
        rows.append({"step": step})
        outcome = saver.finish()
        if outcome is not None:
            assert outcome.error is None
            recorder.mark(outcome.step)
        saver.start(step, live, facts(step))
    rows.append({"step": steps + 1})
    saver.finish()
    recorder.mark(steps)
    rows.close()


def synchronously(run: Path, recorder: Recorder, steps: int) -> None:
    """Without a thread, and without the word beside the folder that something was published."""
    rows, root = Rows(run / "rows" / "metrics.jsonl"), run / "checkpoints"
    for step in range(1, steps + 1):
        rows.append({"step": step})
        rows.secure()
        path = checkpoint.publish(root, content(step))
        recorder.mark(step)
        checkpoint.prune(root, KEEP, {path.name})
    rows.close()


def by_three(run: Path, recorder: Recorder, steps: int) -> None:
    """Three processes' shares of divided tensors, in one."""
    rows, root = Rows(run / "metrics.jsonl"), run / "checkpoints"
    for step in range(1, steps + 1):
        rows.append({"step": step})
        rows.secure()
        states = [rows_of(state(step), rank) for rank in range(3)]
        layouts = [layout_of(one) for one in states]
        folder = part_folder(root, step, f"attempt-{step}")
        shares = [share_of(layouts, rank) for rank in range(3)]
        every = zip(shares, states, strict=True)
        written = [write_share(folder, share, share.tensors(one)) for share, one in every]
        commit(root, folder, step, as_json(facts(step)), written)
        checkpoint.mark(root)
        recorder.mark(step)
        checkpoint.prune(root, KEEP)
    rows.close()


def rows_of(whole: dict[str, dict[str, Piece]], rank: int) -> dict[str, dict[str, Piece]]:
    """What process ``rank`` of three holds, by rows."""
    parts: dict[str, dict[str, Piece]] = {}
    for kind, pieces in whole.items():
        parts[kind] = {}
        for name, piece in pieces.items():
            share = -(-piece.shape[0] // 3)
            begin = min(rank * share, piece.shape[0])
            offset = (begin, *(0 for _ in piece.shape[1:]))
            parts[kind][name] = Piece(piece.shape, offset, piece.tensor[begin : begin + share])
    return parts


def turning_back(run: Path, recorder: Recorder, steps: int) -> None:
    """A course that is given up: first that is written down, then its later checkpoints and rows go."""
    directory, root = RunDirectory(str(run), rank=-1), run / "checkpoints"
    decisions.keep(directory, DECISIONS[:1])
    recorder.mark(Decided(0, 1))
    synchronously(run, recorder, steps)
    target = checkpoint.step_of(checkpoint.published(root)[1])
    recorder.mark(Decided(steps, 1))
    rows = [DECISIONS[0], DECISIONS[1] | {"step": target}]
    decisions.keep(directory, rows)
    recorder.mark(Decided(target, 2))
    checkpoint.withdraw(root, target)
    RunDirectory(str(run / "rows"), rank=-1).rewind(target)


def check(tree: dict, promised: Decided, scratch: Path, again: bool) -> None:
    """What a start after the crash finds."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    write_tree(tree, scratch)
    root = scratch / "checkpoints"
    checkpoint.sweep(root)
    directory = RunDirectory(str(scratch), rank=-1)
    decisions.finish(directory)
    decided = decisions.read(directory)
    assert len(decided) >= promised.decisions, "a decision is lost"
    found = next((one for _, one in checkpoint.newest_sound(root) if isinstance(one, Reader)), None)
    if found is None:
        assert not promised.step, f"step {promised.step} was promised and nothing is left"
        assert not checkpoint.ever_published(root), "a start would refuse to begin anew"
        return
    assert found.step >= (decided[1]["step"] if len(decided) > 1 else promised.step)
    if len(decided) > 1:
        assert found.step == decided[1]["step"], "a checkpoint of the course that was given up is taken"
    for path in checkpoint.published(root):
        checkpoint.verify(path)  # none is half removed either
    assert checkpoint.digest(checkpoint.content_of(found)) == checkpoint.digest(content(found.step))
    [file] = scratch.rglob("metrics.jsonl")
    lines = [json.loads(x) for x in file.read_text().split("\n")[:-1] if x.startswith("{")]
    assert {row["step"] for row in lines} >= set(range(1, found.step + 1)), "a checkpoint is ahead of its rows"
    assert not [p for p in root.iterdir() if p.name.startswith(".")], "something half-done stays"
    if again:
        path = checkpoint.publish(root, content(found.step + 1))
        checkpoint.prune(root, KEEP)
        assert next(iter(checkpoint.newest_sound(root)))[0] == path


def explore(scenario: Callable[[Path, Recorder, int], None], steps: int, tmp_path: Path) -> dict[str, int]:
    """Runs ``scenario`` once, recorded, and checks all states that a crash in it can leave."""
    run, scratch = tmp_path / "run", tmp_path / "scratch"
    run.mkdir()
    recorder = Recorder(run)
    with recorder.recording():
        scenario(run, recorder, steps)
    disk, promised, seen = Disk(), Decided(), set()
    counts = {"operations": len(recorder.operations), "kills": 0, "power losses": 0, "states": 0}
    for number in range(len(recorder.operations) + 1):
        for mark in recorder.marks.get(number, []):
            promised = mark if isinstance(mark, Decided) else replace(promised, step=mark)
        cases = [("kept", {}), *disk.losses()]  # the first is a kill: the system lives on, with all that it was given
        for case, (data, changes) in enumerate(cases):
            counts["kills" if case == 0 else "power losses"] += 1
            tree = disk.tree(data, changes)
            key = (hashlib.sha256(repr(sorted(tree.items())).encode()).digest(), promised)
            if key not in seen:
                seen.add(key)
                try:
                    check(tree, promised, scratch, again=case == 0)
                except AssertionError as error:
                    names = {path: None if c is None else len(c) for path, c in tree.items()}
                    raise AssertionError(f"after operation {number} ({data}, {changes}): {error}\n{names}") from error
        if number < len(recorder.operations):
            disk.do(recorder.operations[number])
    assert disk.tree("kept", {}) == read_tree(run), "an operation was not recorded"
    counts["states"] = len(seen)
    return counts


@pytest.mark.parametrize("scenario", [beside_training, by_three, turning_back])
def test_any_operation_may_be_the_last(scenario: Callable, tmp_path: Path) -> None:
    counts = explore(scenario, 3 if scenario is by_three else 4, tmp_path)
    assert counts["operations"] > 60
    assert counts["states"] > 100
    print(scenario.__name__, counts)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [beside_training, synchronously, by_three, turning_back])
def test_any_operation_of_a_longer_run_may_be_the_last(scenario: Callable, tmp_path: Path) -> None:
    counts = explore(scenario, 9, tmp_path)
    assert counts["operations"] > 200
    print(scenario.__name__, counts)

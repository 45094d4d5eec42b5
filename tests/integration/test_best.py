"""The name of what says which checkpoints are best is checked as soon as all names are known."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pretrain import checkpoint
from tests.integration.runs import TEXT, run, start, steps, wait

TYPO = ["checkpoint.keep_best.count=1", "checkpoint.keep_best.metric=mlm/prose/los"]
SAID = "checkpoint.keep_best.metric 'mlm/prose/los' is not measured; did you mean 'mlm/prose/loss'?"


@pytest.mark.parametrize(
    ("more", "first"),
    [
        ((), 2),  # the report's galleries look every 4 steps, and measure nothing
        (("+evaluator@evaluators.use=health", "evaluators.use.every_n_steps=3"), 3),
        (("evaluate.untrained=true",), 1),
    ],
)
def test_a_typo_is_told_when_all_have_measured_once(tmp_path: Path, more: tuple[str, ...], first: int) -> None:
    folder, errors = tmp_path / "run", tmp_path / "errors"
    given = [*TEXT, *TYPO, "max_steps=40", "evaluate.every_n_steps=2", "checkpoint.every_n_steps=1", *more]
    if len(more) > 1:
        given.append("evaluators.use.source=${data.text.heldout.prose.pattern}")

    def told() -> None:
        sys.stderr = open(errors, "a", buffering=1)  # noqa: SIM115 - as long as the process lives

    assert wait(start([*given, f"run_dir={folder}"], told)) == 2
    assert SAID in errors.read_text()
    assert steps(folder)[-1] == first


def test_a_typo_that_is_found_at_the_end_costs_no_save(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run([*TEXT, *TYPO, "max_steps=3", "evaluate.every_n_steps=100", f"run_dir={folder}"]) == 0
    assert checkpoint.find(folder).step == 3
    assert SAID in (folder / "log.txt").read_text()


def test_what_was_measured_before_and_is_missing_now_ends_nothing(tmp_path: Path) -> None:
    """Here the second start no longer has the held-out data that the first one was judged by."""
    folder = tmp_path / "run"
    best = ["checkpoint.keep_best.count=1", "checkpoint.keep_best.metric=use/text_effective_rank"]
    use = ["+evaluator@evaluators.use=health", "evaluators.use.source=${data.text.heldout.prose.pattern}"]
    given = [*TEXT, *best, "evaluate.every_n_steps=1", "checkpoint.every_n_steps=1", f"run_dir={folder}"]
    assert run([*given, *use, "max_steps=2"]) == 0
    assert run([*given, "max_steps=4"]) == 0
    assert checkpoint.find(folder).step == 4
    assert "'use/text_effective_rank' is not measured" in (folder / "log.txt").read_text()

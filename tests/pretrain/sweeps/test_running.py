"""Which trial is ended early: by what it has measured, as soon as that is known, and unless somebody wants it."""

import json

import pytest

from pretrain.cli import main
from pretrain.sweeps import running
from pretrain.sweeps.record import read
from pretrain.sweeps.running import run
from pretrain.sweeps.search import choose

SEARCH = ["-m", "experiment=mlm_tiny", "launcher=slurm", "launcher.start=false", "run_dir=sweep", "sweeper=optuna"]
SEARCH += ["sweeper.metric=loss", "sweeper.trials=3", "sweeper.prune=true", "sweeper.prune_after_trials=2"]
ROW = '{"step": 2, "heldout/loss": 9.0}'
MEASURED = '{"step": 2, "metrics": {"loss": {"value": 9.0}}}'


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Two trials that have finished, and a third one that is to begin."""
    monkeypatch.chdir(tmp_path)
    assert main([*SEARCH, "optimizer.lr=interval(1,2)"]) == 0
    sweep = read("sweep")
    for trial in sweep.trials:
        choose(sweep, trial)
        folder = sweep.folder(trial)
        (folder / "lock").write_text("")
        for file in ("config.yaml", "launch/config.yaml"):
            (folder / file).write_text("max_steps: 4\n")
    for trial in sweep.trials[:2]:
        folder = sweep.folder(trial)
        rows = [{"step": step, "heldout/loss": 1.0} for step in (2, 4)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "checkpoints/step-00000004").mkdir(parents=True)
    return sweep


def pruned(sweep, command):
    """Whether the last trial was to be ended while ``command`` did what a training does."""
    trial = sweep.trials[-1]
    run(sweep, trial, ["sh", "-c", f"cd {sweep.folder(trial)}; {command}"])
    return (sweep.folder(trial) / "launch/pruned.json").exists()


def test_a_trial_without_prospects_that_is_retried_goes_on(sweep):
    command = f"echo '{ROW}' >> metrics.jsonl; echo '{MEASURED}' > results.json; sleep 1.5"
    assert pruned(sweep, command)
    assert main(["sweep", "retry", "sweep", "2"]) == 0
    assert not pruned(sweep, f"{command}; touch done")
    assert (sweep.folder(sweep.trials[-1]) / "done").exists()


def test_a_measurement_whose_row_comes_later_is_judged(sweep):
    assert pruned(sweep, f"echo '{MEASURED}' > results.json; sleep 1.2; echo '{ROW}' >> metrics.jsonl; sleep 1.5")


def test_a_measurement_without_values_is_waited_for_by_nobody(sweep, monkeypatch):
    asked = []
    monkeypatch.setattr(running, "is_hopeless", lambda *given: bool(asked.append(given)))
    empty = '{"step": 2, "metrics": {"loss": {"step": 1, "value": 9.0}}}'
    assert not pruned(sweep, f"echo '{empty}' > results.json; sleep 1.8")
    assert len(asked) == 1

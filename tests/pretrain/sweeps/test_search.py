"""What an optimizer may choose from, and that each trial's values are chosen once."""

import errno
import fcntl
import json
import os
import shutil

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from data.errors import InputError
from pretrain import config
from pretrain.cli import main
from pretrain.sweeps.record import read
from pretrain.sweeps.search import UnfitError, choose
from pretrain.sweeps.space import distributions, overrides

SEARCH = ["-m", "experiment=mlm_tiny", "launcher=slurm", "launcher.start=false", "run_dir=sweep", "sweeper=optuna"]
SEARCH += ["sweeper.metric=mlm/prose/loss", "sweeper.trials=3"]
SPACE = ["optimizer.lr=tag(log,interval(1e-4,1e-2))", "trainer.compile=true,false"]


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_grammar_of_sweeps_is_what_may_be_chosen():
    found = distributions(
        [
            "a=interval(1,2)",
            "b=tag(log,interval(1e-4,1e-2))",
            "c=range(1,5)",
            "d=1,null,x,'y z',true",
            "e=range(0,1,0.25)",
            "f=int(interval(1,4))",
            "g=tag(log,int(interval(1,4)))",
        ]
    )
    assert found == {
        "a": FloatDistribution(1, 2),
        "b": FloatDistribution(1e-4, 1e-2, log=True),
        "c": IntDistribution(1, 4),
        "d": CategoricalDistribution([1, None, "x", "y z", True]),
        "e": FloatDistribution(0, 1, step=0.25),
        "f": IntDistribution(1, 4),
        "g": IntDistribution(1, 4, log=True),
    }


@pytest.mark.parametrize("space", ["a=interval(2,1)", "a=tag(log,interval(0,1))", "a=[1],[2]", "a=glob(*)"])
def test_what_is_nothing_to_choose_from_is_named(space):
    with pytest.raises(InputError, match="is nothing to choose from"):
        distributions([space])


def test_chosen_values_arrive_as_they_are(inside):
    words = overrides({"optimizer.lr": 1.5e-05, "name": "it's {a}, $b", "seed": 3, "ledger": True, "init_from": None})
    found = config.load(["experiment=mlm_tiny", *words])
    assert (found["optimizer"]["lr"], found["name"], found["seed"]) == (1.5e-05, "it's {a}, $b", 3)
    assert (found["ledger"], found["init_from"]) == (True, None)


def test_values_are_chosen_once_and_anew_for_each_trial(inside):
    assert main([*SEARCH, *SPACE]) == 0
    script = (inside / "sweep/launch/job.sh").read_text()
    assert f" -m pretrain sweep trial {inside}/sweep $SLURM_ARRAY_TASK_ID -- srun --kill-on-bad-exit=1 " in script
    sweep = read("sweep")
    assert [trial.overrides for trial in sweep.trials] == [[], [], []]
    rounds = []
    for space in (SPACE, ["optimizer.lr=interval(1,2)"]):
        assert main([*SEARCH, *space]) == 0
        sweep = read("sweep")
        for trial in sweep.trials:
            choose(sweep, trial)
        rounds.append([json.loads((sweep.folder(trial) / "launch/chosen.json").read_text()) for trial in sweep.trials])
    chosen = rounds[0]
    assert rounds[1] == chosen
    rates = [one["params"]["optimizer.lr"] for one in chosen]
    assert len(set(rates)) == 3
    assert [trial.overrides for trial in read("sweep").trials] == [one["overrides"] for one in chosen]
    frozen = [config.load([], file=str(sweep.folder(trial) / "launch/config.yaml")) for trial in sweep.trials]
    assert [one["optimizer"]["lr"] for one in frozen] == rates
    assert [one["run_dir"] for one in frozen] == [str(sweep.folder(trial)) for trial in sweep.trials]
    assert main([*SEARCH, *SPACE, "max_steps=7"]) == 0  # what is chosen stays, what is common changes
    again = config.load([], file=str(sweep.folder(sweep.trials[0]) / "launch/config.yaml"))
    assert (again["optimizer"]["lr"], again["max_steps"]) == (rates[0], 7)


def test_values_are_chosen_on_a_file_system_without_locks(inside, capsys, monkeypatch):
    assert main([*SEARCH, *SPACE]) == 0

    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    capsys.readouterr()
    choose(read("sweep"), read("sweep").trials[0])
    assert read("sweep").trials[0].overrides
    said = capsys.readouterr().err
    assert f"the file system of '{inside}/sweep' has no locks" in said
    assert said.count("\n") == 1


def test_a_trial_that_is_redone_is_told_with_the_values_it_ran_with(inside):
    assert main([*SEARCH, *SPACE]) == 0
    for trial in read("sweep").trials:
        choose(read("sweep"), trial)
    assert main([*SEARCH, *SPACE, "sweeper.trials=4"]) == 0  # grown, which knows what the first ones were
    trial = read("sweep").trials[1]
    former = trial.overrides
    record = json.loads((inside / "sweep/sweep.json").read_text())
    assert [one["overrides"] for one in record["trials"]] == [[]] * 4
    record["trials"][1]["overrides"] = former  # as earlier versions wrote it
    (inside / "sweep/sweep.json").write_text(json.dumps(record))
    shutil.rmtree(inside / "sweep" / trial.folder)
    assert read("sweep").trials[1].overrides == []
    assert main([*SEARCH, "optimizer.lr=interval(1,2)", "sweeper.trials=4"]) == 0
    choose(read("sweep"), trial)
    (again,) = [one.overrides for one in read("sweep").trials if one.number == trial.number]
    assert again != former
    assert again == json.loads((inside / "sweep" / trial.folder / "launch/chosen.json").read_text())["overrides"]


def test_values_that_do_not_compose_are_one_trials_and_no_others(inside, capsys):
    assert main([*SEARCH, "sweeper.trials=8", "micro_batch_size=8,0"]) == 0
    sweep, outcomes = read("sweep"), []
    for trial in sweep.trials:
        try:
            choose(sweep, trial)
            outcomes.append("")
        except UnfitError as error:
            outcomes.append(str(error))
    refused = [said for said in outcomes if said]
    assert 0 < len(refused) < len(outcomes)
    assert all("micro_batch_size=0 is too small" in said for said in refused)
    assert main([*SEARCH, "sweeper.trials=8", "micro_batch_size=8,16"]) == 0  # a mended space
    sweep = read("sweep")
    for trial in sweep.trials:
        choose(sweep, trial)
    assert all("micro_batch_size=0" not in trial.overrides for trial in read("sweep").trials)


def test_a_metric_that_is_measured_now_and_then(inside):
    assert main([*SEARCH, *SPACE]) == 0
    sweep = read("sweep")
    choose(sweep, sweep.trials[0])
    folder = sweep.folder(sweep.trials[0])
    (folder / "lock").write_text("")
    (folder / "config.yaml").write_text("max_steps: 4\n")
    (folder / "launch/config.yaml").write_text("max_steps: 4\n")
    rows = [{"step": 2, "heldout/other": 1.0}, {"step": 4, "heldout/other": 1.0}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    choose(sweep, sweep.trials[1])  # the first one goes on: it may be measured yet
    (folder / "checkpoints/step-00000004").mkdir(parents=True)
    with pytest.raises(InputError, match=r"sweeper.metric 'mlm/prose/loss'.*other"):
        choose(sweep, sweep.trials[2])
    rows[1]["heldout/mlm/prose/loss"] = 0.5
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    choose(sweep, sweep.trials[2])


def test_a_grid_and_a_search_do_not_share_a_directory(inside, capsys):
    assert main([*SEARCH, *SPACE]) == 0
    capsys.readouterr()
    assert main([*SEARCH[:5], "seed=1,2"]) == 2
    assert "is a sweep of another kind than sweeper=grid" in capsys.readouterr().err
    assert [trial.folder for trial in read("sweep").trials] == ["trial-0000", "trial-0001", "trial-0002"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*SEARCH, "seed=3"], "sweeper=optuna has nothing to choose"),
        ([*SEARCH, "optimizer.lrr=interval(1,2)"], "has no 'optimizer.lrr'; did you mean 'optimizer.lr'?"),
        ([*SEARCH, "optimizer=adamw,muon"], "'optimizer' has keys of its own"),
        ([*SEARCH, "sweeper.trials=0", *SPACE], "sweeper.trials=0 is too small"),
        ([*SEARCH, "sweeper.mode=least", *SPACE], "sweeper.mode 'least' is not there"),
        ([*SEARCH, "sweeper.trails=1", *SPACE], "unknown key 'sweeper.trails'; did you mean 'sweeper.trials'?"),
        (["-m", "sweeper=optuna", *SPACE], "sweeper.metric"),
        (["-m", "sweeper=hyperopt", *SPACE], "sweeper 'hyperopt' does not exist; choices: grid, optuna"),
        (["-m", "optimizer.lr=interval(1,2)"], "has no end of values; choices: a list of them, sweeper=optuna"),
        (["sweeper=optuna", "sweeper.metric=x"], "sweeper=optuna is for sweeps; choices: pretrain -m"),
    ],
)
def test_what_cannot_be_searched_is_named(inside, capsys, arguments, message):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1

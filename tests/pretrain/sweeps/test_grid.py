import json
import os
import shutil

import pytest

from pretrain import config
from pretrain.cli import main
from pretrain.run import RunDirectory
from pretrain.sweeps.record import read
from pretrain.sweeps.starting import ranges

GRID = ["-m", "experiment=mlm_tiny", "launcher=slurm", "launcher.start=false", "run_dir=sweep"]


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(inside, capsys):
    def call(*arguments):
        assert main(list(arguments)) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    return call


@pytest.mark.parametrize(
    ("numbers", "text"), [([0], "0"), ([0, 1, 2, 5], "0-2,5"), ([7, 3, 4], "3-4,7"), ([1, 3, 5], "1,3,5")]
)
def test_elements_of_an_array(numbers, text):
    assert ranges(numbers) == text


def test_a_grid_is_one_array_and_a_directory_each(inside):
    assert main([*GRID, "seed=0,1", "optimizer.lr=1e-3,2e-3", "launcher.at_once=3"]) == 0
    names = [f"seed={s},optimizer.lr={lr}" for s in (0, 1) for lr in ("0.001", "0.002")]
    assert (inside / "sweep/launch/trials.txt").read_text().splitlines() == [f"{inside}/sweep/{n}" for n in names]
    assert "\n#SBATCH --array=0-3%3\n" in (inside / "sweep/launch/job.sh").read_text()
    for name in names:
        assert f"run_dir: {inside}/sweep/{name}\n" in (inside / "sweep" / name / "launch/config.yaml").read_text()


def test_a_sweep_grows_and_numbers_stay(inside):
    assert main([*GRID, "seed=3,4"]) == 0
    assert main([*GRID, "seed=2,3,4"]) == 0
    found = read("sweep")
    assert [(one.number, one.overrides) for one in found.trials] == [(0, ["seed=3"]), (1, ["seed=4"]), (2, ["seed=2"])]
    assert "\n#SBATCH --array=0-2\n" in (inside / "sweep/launch/job.sh").read_text()


def test_a_sweep_goes_on_where_it_was_moved_to_and_a_copy_by_itself(inside):
    assert main([*GRID, "seed=3,4", r"name='\\\${x} \${seed}'"]) == 0
    before = config.load([], file="sweep/seed=3/launch/config.yaml")
    shutil.copytree("sweep", "odd ${copy}")
    os.rename("sweep", "moved")
    for sweep in ("odd ${copy}", "moved"):
        assert main(["sweep", "resume", sweep]) == 0
        for trial in read(sweep).trials:
            found = config.load([], file=f"{sweep}/{trial.folder}/launch/config.yaml")
            assert found["run_dir"] == f"{inside}/{sweep}/{trial.folder}"
        assert config.difference(config.load([], file=f"{sweep}/seed=3/launch/config.yaml"), before).keys() == {
            "run_dir"
        }


def test_a_damaged_config_is_for_its_own_trial_to_say(inside):
    assert main([*GRID, "seed=3,4"]) == 0
    damaged = inside / "sweep/seed=3/launch/config.yaml"
    damaged.write_text("run_dir: [")
    assert main(["sweep", "resume", "sweep"]) == 0
    assert damaged.read_text() == "run_dir: ["


def test_names_that_no_folder_can_have_are_replaced(inside):
    long = "x" * 300
    assert main([*GRID, f"name=a,{long},'b\"c'"]) == 0
    folders = [one.folder for one in read("sweep").trials]
    assert folders[0] == "name=a"
    assert [folder[:6] for folder in folders[1:]] == ["trial-", "trial-"]
    assert len(set(folders)) == 3


def test_values_that_differ_in_a_slash_are_trials_of_their_own(inside):
    for values in ("runs/a_b,runs/a/b", "runs/a/b,runs/a_b,runs_a_b"):
        assert main([*GRID, f"data.root={values}"]) == 0
    found = {one.overrides[0]: one.folder for one in read("sweep").trials}
    assert list(found) == ["data.root=runs/a_b", "data.root=runs/a/b", "data.root=runs_a_b"]
    assert len(set(found.values())) == 3
    for override, folder in found.items():
        assert f"root: {override[10:]}\n" in (inside / "sweep" / folder / "launch/config.yaml").read_text()


def test_the_best_trial_is_told_with_the_step_at_which_its_value_was_measured(inside, capsys):
    assert main([*GRID, "seed=0,1"]) == 0
    for number, trial in enumerate(read("sweep").trials):
        directory = RunDirectory(str(inside / "sweep" / trial.folder))
        directory.write_results(1000, {"probe/accuracy": {"value": 0.5 + number / 4}, "mlm/loss": {"value": 2.0}})
        directory.write_results(1900, {"mlm/loss": {"value": 1.0}}, whole=False)
    capsys.readouterr()
    for metric, mode, numbers, step in (("probe/accuracy", "max", [1, 0], 1000), ("mlm/loss", "min", [0, 1], 1900)):
        assert main(["sweep", "best", "sweep", "--metric", metric, "--mode", mode, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["trials"]
        assert [(one["number"], one["step"]) for one in found] == [(number, step) for number in numbers]


def test_the_best_trial_of_a_slurm_sweep_is_told_where_there_is_no_slurm(inside, capsys, monkeypatch):
    assert main([*GRID, "seed=0,1"]) == 0
    RunDirectory(str(inside / "sweep/seed=0")).write_results(7, {"mlm/loss": {"value": 2.0}})
    record = json.loads((inside / "sweep/sweep.json").read_text())
    record["job"]["launcher"]["start"] = True  # as if it had been submitted elsewhere
    (inside / "sweep/sweep.json").write_text(json.dumps(record))
    monkeypatch.setenv("PATH", str(inside))
    capsys.readouterr()
    assert main(["sweep", "best", "sweep", "--metric", "mlm/loss", "--mode", "min", "--json"]) == 0
    assert [one["value"] for one in json.loads(capsys.readouterr().out)["trials"]] == [2.0]
    assert main(["sweep", "status", "sweep"]) == 2
    assert "needs squeue" in capsys.readouterr().err


def test_what_is_no_sweep_is_named(refused, inside):
    assert "'seed=glob(*)' is not taken here" in refused(*GRID, "seed=glob(*)")
    assert "'seed=range(3,3)' has no values" in refused(*GRID, "seed=range(3,3)")
    assert "lie in different places" in refused("-m", "experiment=mlm_tiny,clm_tiny")
    assert "trainer.devices differs between trials" in refused(*GRID, "trainer.devices=1,2")
    assert "launcher=torchrun starts no sweep" in refused("-m", "launcher=torchrun", "seed=1,2")
    assert "'nowhere' is no sweep" in refused("sweep", "status", "nowhere")
    assert "holds a credential" in refused("-m", "seed=1,2", "run_dir=x", "data.root='https://a:hunter2222@h/'")
    assert main([*GRID, "seed=3,4"]) == 0
    assert "has no trial 2; choices: 0 to 1" in refused("sweep", "retry", "sweep", "2")
    assert "say by which held-out value" in refused("sweep", "best", "sweep")
    assert "no trial of" in refused("sweep", "best", "sweep", "--metric", "a", "--mode", "min")
    assert "say which values of 'a' are good" in refused("sweep", "best", "sweep", "--metric", "a")
    (inside / "file").write_text("")
    assert "run_dir 'file' cannot be written" in refused(*GRID[:-1], "run_dir=file", "seed=1,2")
    assert "run_dir 'file/sweep' cannot be written" in refused(*GRID[:-1], "run_dir=file/sweep", "seed=1,2")
    (inside / "sweep/lock").unlink()
    (inside / "sweep/lock").mkdir()  # which root cannot write either
    assert "run_dir 'sweep' cannot be written" in refused("sweep", "resume", "sweep")
    (inside / "sweep/sweep.json").write_text(json.dumps({"trials": 3}))
    assert "sweep.json' cannot be read" in refused("sweep", "status", "sweep")

"""What is written before anything is started; that it works is for a real Slurm to show (tests/faults)."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pretrain import config
from pretrain.cli import main
from pretrain.launchers import slurm
from pretrain.launchers.slurm import jobs_of
from pretrain.sweeps.record import read
from pretrain.sweeps.search import choose

SLURM = ["experiment=mlm_tiny", "launcher=slurm"]


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(*arguments):
    assert main([*SLURM, "launcher.start=false", "run_dir=run", *arguments]) == 0
    return Path("run/launch/job.sh").read_text()


def refused(capsys, *arguments):
    assert main(list(arguments)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_the_script_says_what_the_config_says(inside):
    text = written(
        *("trainer.devices=4", "trainer.num_nodes=2", "launcher.time=12:00:00", "launcher.signal_before_s=120"),
        *("launcher.partition=gpu", "launcher.cpus_per_task=8", "launcher.mem=200G", "launcher.options=[--exclusive]"),
        *("launcher.setup=['module load cuda']", "launcher.srun_options=['--cpu-bind=none']", "trusted_roots=[mine]"),
    )
    options = re.findall(r"^#SBATCH (.*)$", text, re.MULTILINE)
    wanted = ["--job-name=mlm_tiny", "--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--cpus-per-task=8"]
    wanted += ["--mem=200G", "--time=12:00:00", "--partition=gpu", "--signal=USR1@120", "--open-mode=append"]
    wanted += [f"--output={inside}/run/launch/%j.out", f"--chdir={inside}", "--requeue", "--exclusive"]
    assert options == wanted
    assert "\nmodule load cuda\n" in text
    assert text.splitlines()[-1] == (
        "exec srun --kill-on-bad-exit=1 --cpus-per-task=8 --cpu-bind=none "
        f"{sys.executable} -P -m pretrain --config {inside}/run/launch/config.yaml 'trusted_roots=[mine]'"
    )
    assert subprocess.run(["bash", "-n", "run/launch/job.sh"], check=False).returncode == 0
    assert os.access("run/launch/job.sh", os.X_OK)


def test_no_devices_are_asked_for_where_none_are_used(inside):
    assert "--gpus" not in written("trainer.accelerator=cpu")
    assert "--gpus-per-node=2" in written("trainer.accelerator=cpu", "launcher.gpus_per_node=2")


def test_the_config_is_frozen_and_starts_here(inside):
    (inside / "own/experiment").mkdir(parents=True)
    mine = inside / "own/experiment/mine.yaml"
    mine.write_text("# @package _global_\ndefaults:\n  - mlm_tiny\n  - _self_\nmax_steps: 77\n")
    written("--config-dir=own", "experiment=mine", "seed=5")
    mine.write_text("# @package _global_\ndefaults:\n  - mlm_tiny\n  - _self_\nmax_steps: 1\n")
    frozen = config.load([], file="run/launch/config.yaml")
    assert (frozen["max_steps"], frozen["seed"], frozen["launcher"]) == (77, 5, {"kind": "local"})
    composed = config.load(["experiment=mlm_tiny", "max_steps=77", "seed=5", "run_dir=run"])
    assert config.difference(frozen, composed) == {}


def test_text_that_looks_like_a_reference_stays_text(inside):
    odd = [r"name='\\\${seed} \${seed} costs $5 {a}'", r"allow_changes=['\${x}', 'no: yes', '1e-3', '~']"]
    written(*odd)
    composed = config.load(["experiment=mlm_tiny", "run_dir=run", *odd])
    assert composed["name"] == r"\${seed} ${seed} costs $5 {a}"
    assert config.load([], file="run/launch/config.yaml") == composed


@pytest.mark.parametrize("folder", ["o'brien", "a b#c"])
def test_odd_folders_arrive_whole(inside, folder):
    assert main([*SLURM, "launcher.start=false", f'run_dir="{folder}"']) == 0
    text = (inside / folder / "launch/job.sh").read_text()
    assert f'#SBATCH --output="{inside}/{folder}/launch/%j.out"\n' in text
    assert subprocess.run(["bash", "-n", inside / folder / "launch/job.sh"], check=False).returncode == 0


def test_a_job_is_found_by_any_spelling_of_its_path(inside, monkeypatch):
    (inside / "real/launch").mkdir(parents=True)
    (inside / "link").symlink_to("real")
    (inside / "bin").mkdir()
    queue = inside / "bin/squeue"  # as Slurm prints it: the path that was handed to sbatch
    queue.write_text(f"#!/bin/sh\necho '7_3|PENDING|Priority|{inside}/link/launch/job.sh'\necho '8|RUNNING|None|/x'\n")
    queue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{inside / 'bin'}:{os.environ['PATH']}")
    for folder in ("real", "link", "bin/../real"):
        assert [job.name for job in jobs_of(inside / folder / "launch/job.sh")] == ["7_3"]
    assert jobs_of(inside / "other/launch/job.sh") == []


@pytest.fixture
def queue(inside, monkeypatch):
    """A Slurm whose queue gives each time the next of some answers about an own job, and the last one for ever."""
    (inside / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{inside / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "_LOOK_S", 0.01)

    def says(name, script, *states):
        for number, state in enumerate(states):
            line = f"{name}|{state}|None|{inside}/{script}" if state else ""
            (inside / f"bin/answer-{number}").write_text(line and f"{line}\n")
        asked = f"n=$(cat {inside}/bin/asked 2>/dev/null || echo 0); [ $n -lt {len(states)} ] || n={len(states) - 1}"
        texts = {"squeue": f"{asked}; cat {inside}/bin/answer-$n; echo $((n + 1)) > {inside}/bin/asked"}
        for program, text in (texts | {"sbatch": "echo 99"}).items():
            (inside / "bin" / program).write_text(f"#!/bin/sh\n{text}\n")
            (inside / "bin" / program).chmod(0o755)
        (inside / "bin/asked").unlink(missing_ok=True)

    return says


def test_a_job_that_is_ending_is_waited_for(inside, queue, capsys, monkeypatch):
    queue("7", "run/launch/job.sh", "COMPLETING", "COMPLETING", "")
    assert main([*SLURM, "run_dir=run"]) == 0
    said = capsys.readouterr()
    assert said.err == "waiting for job 7, which is ending\n"
    assert "job 99 is submitted" in said.out
    queue("7", "run/launch/job.sh", "COMPLETING", "PENDING")  # put back
    assert main([*SLURM, "run_dir=run"]) == 0
    assert "job 7 is pending, and works on 'run' already" in capsys.readouterr().out
    queue("7_1", "sweep/launch/job.sh", "COMPLETING", "")
    assert main(["-m", *SLURM, "seed=1,2", "run_dir=sweep"]) == 0
    assert "an array of 2 trials" in capsys.readouterr().out
    monkeypatch.setattr(slurm, "_ENDING_S", 0.1)
    queue("7_1", "sweep/launch/job.sh", "COMPLETING")
    assert main(["sweep", "resume", "sweep"]) == 0  # what else there is need not wait
    assert "an array of 1 trials" in capsys.readouterr().out
    queue("7", "run/launch/job.sh", "COMPLETING")
    assert main([*SLURM, "run_dir=run"]) == 1
    assert "job 7, which works on 'run', is ending; give the command again" in capsys.readouterr().err


def test_a_credential_is_not_written_down(inside, capsys):
    arguments = [*SLURM, "launcher.start=false", "run_dir=run"]
    said = refused(capsys, *arguments, "data.root='https://me:hunter2222@host/x'")
    assert "holds a credential" in said
    assert "hunter2222" not in said
    assert "the batch script would hold a credential" in refused(
        capsys, *arguments, "launcher.setup=['export API_KEY=hunter2222']"
    )
    assert all(b"hunter2222" not in path.read_bytes() for path in inside.rglob("*") if path.is_file())


def test_a_credential_of_the_environment_stays_there(inside, monkeypatch):
    monkeypatch.setenv("MY_STORE", "https://me:hunter2222@host/x")
    store = "data.root=${oc.env:MY_STORE}"
    written(store)
    search = ["-m", *SLURM, "launcher.start=false", "run_dir=sweep", store, "sweeper=optuna", "sweeper.metric=x"]
    assert main([*search, "sweeper.trials=1", "optimizer.lr=interval(1,2)"]) == 0
    choose(read("sweep"), read("sweep").trials[0])
    assert all(b"hunter2222" not in path.read_bytes() for path in inside.rglob("*") if path.is_file())
    for file in ("run/launch/config.yaml", "sweep/trial-0000/launch/config.yaml"):
        assert config.load([], file=file)["data"]["root"] == "https://me:hunter2222@host/x"
    monkeypatch.setenv("MY_STORE", "https://me:another1@host/x")
    assert config.load([], file="run/launch/config.yaml")["data"]["root"] == "https://me:another1@host/x"


def test_a_host_without_slurm_is_told_the_choices(inside, capsys, monkeypatch):
    (inside / "bin").mkdir()
    (inside / "bin/git").symlink_to(shutil.which("git"))
    monkeypatch.setenv("PATH", str(inside / "bin"))
    said = refused(capsys, *SLURM, "run_dir=run")
    assert re.search(r"launcher=slurm needs squeue, which this host does not have; choices: .*launcher=local", said)
    assert not (inside / "run/launch").exists()
    assert "launcher=slurm needs squeue" in refused(capsys, "-m", *SLURM, "seed=1,2", "run_dir=run")


def test_what_cannot_work_is_said_before_it_waits_in_a_queue(inside, capsys):
    assert "cannot be dealt evenly to 7 devices" in refused(capsys, *SLURM, "trainer.devices=7", "run_dir=run")
    assert "leaves no time to train" in refused(capsys, *SLURM, "launcher.time=0:05:00", "run_dir=run")
    assert "needs launcher.rendezvous=HOST:PORT" in refused(
        capsys, "experiment=mlm_tiny", "launcher=torchrun", "trainer.num_nodes=2", "run_dir=run"
    )
    said = refused(capsys, "experiment=mlm_tiny", "launcher=torchrun", "launcher.min_nodes=2", "run_dir=run")
    assert "launcher.min_nodes=2 is more than trainer.num_nodes=1" in said
    assert not (inside / "run/launch").exists()


def test_ranks_do_not_launch(inside, capsys, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    assert "a launcher has started" in refused(capsys, *SLURM, "run_dir=run")
    assert "a launcher has started" in refused(capsys, "-m", "experiment=mlm_tiny", "seed=1,2", "run_dir=run")


def test_a_number_of_hosts_that_may_change(inside):
    arguments = ["trainer.num_nodes=2", "launcher.min_nodes=1", "launcher.rendezvous=h1:29400", "launcher.start=false"]
    assert main(["experiment=mlm_tiny", "launcher=torchrun", "run_dir=run", "launcher.max_restarts=3", *arguments]) == 0
    text = (inside / "run/launch/torchrun.sh").read_text()
    assert "--nnodes=1:2 --nproc-per-node=1 --max-restarts=3 --rdzv-backend=c10d --rdzv-endpoint=h1:29400" in text
    assert text.rstrip().endswith("trainer.num_nodes=$GROUP_WORLD_SIZE'")
    assert "\nexec " in text
    assert subprocess.run(["bash", "-n", "run/launch/torchrun.sh"], check=False).returncode == 0

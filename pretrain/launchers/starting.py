"""``launcher=torchrun|slurm``: a run is written down, and handed to what starts it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from data.errors import InputError, RunError
from pretrain import launch
from pretrain.launchers import slurm, torchrun
from pretrain.launchers.frozen import command, folder_of, freeze, put, record
from pretrain.launchers.options import SLURM, TORCHRUN, check_time
from pretrain.ranks import check_spread
from pretrain.runs.holder import holder
from pretrain.signals import SIGNALS

Written = Callable[[], DictConfig]


def start(config: Mapping[str, Any], overrides: Sequence[str], written: Written) -> int:
    """Starts the run as its ``launcher`` says; the exit code.

    Args:
        config: of the run, resolved.
        overrides: of the command line.
        written: gives the config with its references; see :func:`pretrain.config.written`.

    Raises:
        InputError: the launcher is not there or refuses, or somebody works on the run already.
        RunError: Slurm does not answer, or does not come to the end of a job that is ending.
        Stopped: a signal came before anything was started.
    """
    if launch.launched():
        raise InputError(
            f"launcher={config['launcher']['kind']} was given to a process that a launcher has started; give it to one "
            "process, or launcher=local to all"
        )
    return (_slurm if config["launcher"]["kind"] == SLURM else _torchrun)(config, overrides, written)


def _slurm(config: Mapping[str, Any], overrides: Sequence[str], written: Written) -> int:
    options = config["launcher"]
    check(config)
    folder = folder_of(config["run_dir"])
    path = folder / slurm.SCRIPT
    if options["start"]:
        for job in slurm.settled_jobs(path):
            if job.state == slurm.ENDING:
                raise RunError(
                    f"job {job.name}, which works on '{config['run_dir']}', is ending; give the command again"
                )
            print(f"job {job.name} is {job.state.lower()}, and works on '{config['run_dir']}' already")
            return 0
        refuse_a_second(config["run_dir"])
    run = command(str(freeze(config, written)), overrides)
    put(path, slurm.script(config, folder, [shlex.quote(word) for word in run], Path.cwd()), mode=0o755)
    if not options["start"]:
        print(f"written, not submitted: {path}")
        return 0
    SIGNALS.check()
    number = slurm.submit(path)
    print(f"job {number} is submitted; its output: {folder / f'{number}.out'}")
    record(folder, launcher=SLURM, job=number)
    return 0


def _torchrun(config: Mapping[str, Any], overrides: Sequence[str], written: Written) -> int:
    folder = folder_of(config["run_dir"])
    path = folder / torchrun.SCRIPT
    run = command(str(folder / "config.yaml"), overrides)
    text = torchrun.script(config, run)
    freeze(config, written)
    put(path, text, mode=0o755)
    if config["launcher"]["start"]:
        record(folder, launcher=TORCHRUN)
        sys.stdout.flush()
        SIGNALS.check()
        os.execvp("bash", ["bash", str(path)])
    print(f"written, not started: {path}")
    return 0


def check(config: Mapping[str, Any]) -> None:
    """Checks what of a Slurm job can be said before one is submitted.

    Raises:
        InputError: it could not do its work.
    """
    check_time(config["launcher"])
    trainer = config["trainer"]
    check_spread(config, trainer["devices"] * trainer["num_nodes"])


def refuse_a_second(run_dir: str) -> None:
    """Raises an InputError if a process is at work in the run directory."""
    found = holder(Path(run_dir).expanduser())
    if found.active:
        raise InputError(
            f"run_dir '{run_dir}' is in use by process {found.pid} on {found.host}; give another run_dir=... or "
            "end that process first"
        )

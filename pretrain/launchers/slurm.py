"""A batch script that people can read, and its way into Slurm's queue. Nothing stays behind to watch it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import InputError, RunError
from pretrain.redaction import redact
from pretrain.signals import SIGNALS
from pretrain.version import __version__

SCRIPT, ENDING = "job.sh", "COMPLETING"
_SECONDS = 60.0
_ENDING_S, _LOOK_S = 60.0, 1.0
_JOB = re.compile(r"(\d+)(?:_(\d+))?")


@dataclass(frozen=True)
class Job:
    """What Slurm has in its queue, or runs.

    Attributes:
        name: its number; of an array with that of the element: ``12_3``.
        element: that number, None outside of arrays.
        state: in Slurm's words, as ``PENDING``.
        reason: why it waits.
    """

    name: str
    element: int | None
    state: str
    reason: str


def script(
    config: Mapping[str, Any],
    folder: Path,
    run: Sequence[str],
    home: Path,
    before: Sequence[str] = (),
    around: Sequence[str] = (),
    array: str | None = None,
) -> str:
    """The text of a batch script.

    Args:
        config: of the run, resolved; its ``launcher`` is of kind slurm.
        folder: where the job's output goes.
        run: the command of each process, as words for the shell.
        home: where the job begins, and with it the config's relative paths.
        before: lines of shell ahead of it.
        around: the command, as words for the shell, that starts srun; none for the shell itself.
        array: elements of an array, as sbatch takes them; None for a single job.

    Raises:
        InputError: a path cannot stand in such a script, or a credential would.
    """
    options, trainer = config["launcher"], config["trainer"]
    gpus = options["gpus_per_node"]
    if gpus is None:
        gpus = 0 if trainer["accelerator"] == "cpu" else trainer["devices"]
    lines = {
        "job-name": re.sub(r"[^\w.,=+-]", "_", config["name"]),
        "nodes": trainer["num_nodes"],
        "ntasks-per-node": trainer["devices"],
        "gpus-per-node": gpus or None,
        **{key.replace("_", "-"): options[key] for key in ("cpus_per_task", "mem", "time")},
        **{key: options[key] for key in ("partition", "account", "qos", "constraint")},
        "array": f"{array}%{options['at_once']}" if array and options["at_once"] else array,
        "signal": f"USR1@{options['signal_before_s']}",
        "open-mode": "append",
        "output": _path(folder).replace("%", "%%") + ("/%A_%a.out" if array else "/%j.out"),
        "chdir": _path(home),
    }
    srun = ["srun", "--kill-on-bad-exit=1"]
    if options["cpus_per_task"]:
        srun.append(f"--cpus-per-task={options['cpus_per_task']}")  # which a step does not take over from its job
    srun += map(shlex.quote, options["srun_options"])
    text = "\n".join(
        [
            "#!/bin/bash",
            f"# Written by pretrain {__version__}; beside it: {', '.join(_BESIDE)}.",
            "# Slurm may start this as often as it likes: each start goes on where the last one stopped.",
            *(f"#SBATCH --{key}={_word(str(value))}" for key, value in lines.items() if value is not None),
            "#SBATCH --requeue",
            *(f"#SBATCH {_word(one)}" for one in options["options"]),
            "",
            *options["setup"],
            *before,
            f"exec {' '.join([*around, *srun, *run])}",
            "",
        ]
    )
    if redact(text) != text:
        raise InputError(
            "the batch script would hold a credential (in launcher.setup, say); leave it to the environment, which "
            "sbatch hands on to the job"
        )
    return text


_BESIDE = ("config.yaml (as it was at submission)", "environment.txt", "submitted.jsonl")


def _path(path: Path) -> str:
    if re.search(r'[\n"\\]', str(path)):
        raise InputError(f"'{path}' cannot stand in a batch script; choices: a path without quotes and backslashes")
    return str(path)


def _word(value: str) -> str:
    return f'"{value}"' if re.search(r"[\s'#]", value) else value


def _needed(program: str) -> None:
    if shutil.which(program) is None:
        raise InputError(
            f"launcher=slurm needs {program}, which this host does not have; choices: a login node of the cluster, "
            "launcher.start=false to write the script alone, launcher=local, launcher=torchrun"
        )


def submit(path: Path) -> str:
    """Hands the script to Slurm; the number of the job.

    Raises:
        InputError: there is no sbatch, or Slurm refuses the script.
    """
    _needed("sbatch")
    try:
        done = subprocess.run(
            ["sbatch", "--parsable", str(path)], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise RunError(
            f"sbatch does not answer within {_SECONDS:g} s; whether it took '{path}' is for squeue to say"
        ) from None
    if done.returncode:
        said = " ".join(done.stderr.removeprefix("sbatch: error: ").split()) or f"exit code {done.returncode}"
        choices = "see launcher=slurm launcher.KEY=VALUE"
        if "generic resource" in said:  # no node has so many GPUs that Slurm knows of
            choices = "choices: another launcher.gpus_per_node=N (0 asks for none), trainer.accelerator=cpu"
        raise InputError(f"Slurm refuses '{path}': {said}; {choices}")
    return done.stdout.strip().split(";")[0]


def jobs_of(path: Path) -> list[Job]:
    """The jobs in the queue that run the script ``path``. Slurm itself is asked: a note of ours could be missing.

    Raises:
        InputError: this host has no squeue.
        RunError: Slurm does not answer.
    """
    _needed("squeue")
    ask = ["squeue", "--me", "--array", "--noheader", "--format=%i|%T|%r|%o"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise RunError(f"squeue does not answer within {_SECONDS:g} s") from None
    if done.returncode:
        raise RunError(f"squeue does not answer: {' '.join(done.stderr.split())}")
    found, own = [], os.path.realpath(path)
    for line in done.stdout.splitlines():
        name, state, reason, script = line.split("|", 3)
        number = _JOB.fullmatch(name.strip())
        # A path has more than one spelling, by links and by "..", and the queue has the one it was submitted by.
        if number is not None and os.path.realpath(script.strip()) == own:
            found.append(Job(name.strip(), int(number[2]) if number[2] else None, state, reason))
    return found


def settled_jobs(path: Path) -> list[Job]:
    """Those of :func:`jobs_of` once it shows which of them stay: one that is ending may come back into the queue.

    One that is still ending after a minute is among them, in the state :data:`ENDING`.

    Raises:
        InputError: this host has no squeue.
        RunError: Slurm does not answer.
        Stopped: a signal came meanwhile.
    """
    found, end = jobs_of(path), time.monotonic() + _ENDING_S
    if ending := [job.name for job in found if job.state == ENDING]:
        print(f"waiting for job {', '.join(ending)}, which is ending", file=sys.stderr, flush=True)
    while any(job.state == ENDING and job.name in ending for job in found) and time.monotonic() < end:
        SIGNALS.check()
        time.sleep(_LOOK_S)
        found = jobs_of(path)
    return found

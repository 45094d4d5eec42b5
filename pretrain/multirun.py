"""``pretrain -m``: a sweep of one run for each combination of the swept values, each in a directory of its own."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.errors import InputError
from pretrain import config, launch
from pretrain.checkpoint.disk import make
from pretrain.config import difference
from pretrain.ending import DONE
from pretrain.grammar import key_of, parse
from pretrain.launchers.frozen import freeze
from pretrain.launchers.options import LOCAL, SLURM
from pretrain.launchers.starting import check
from pretrain.lease import Lease
from pretrain.sweeps import record
from pretrain.sweeps.record import Sweep
from pretrain.sweeps.standing import Standing, standings
from pretrain.sweeps.starting import start
from pretrain.targets import COMMAND_LINE

_LONGEST = 200


def combinations(overrides: Sequence[str]) -> list[list[str]]:
    """The override lists of a sweep, in Hydra's sweep grammar (``a=1,2``, ``a=choice(1,2)``, ``a=range(1,4)``).

    Raises:
        InputError: an override is malformed.
    """
    axes = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [str(o.input_line)]
        for o in parse(overrides)
    ]
    return [list(combination) for combination in itertools.product(*axes)]


def multirun(overrides: Sequence[str], config_dir: str | None = None, file: str | None = None) -> int:
    """Starts every combination that is not under way; the same command continues a sweep, or lets it grow.

    Returns:
        The worst exit code of the runs; 0 where Slurm has taken them.

    Raises:
        InputError: a combination does not compose, noticed before the first run starts; or somebody else is at work
            on the sweep.
    """
    if launch.launched():
        raise InputError("-m was given to a process that a launcher has started; give it to one process")
    chosen: dict[str, list[str]] = {}
    configs: dict[str, dict[str, Any]] = {}
    for each in combinations(overrides):
        swept = [one for one in each if one not in overrides]
        folder = _folder(swept)
        chosen[folder], configs[folder] = swept, config.load(each, config_dir, file)
    first = next(iter(configs.values()))
    for one in configs.values():
        _check(one, first)
    path = Path(first["run_dir"]).expanduser().absolute()
    make(path)
    lease = Lease(path, first["run_dir"])
    try:
        sweep = _sweep(path, first, overrides)
        trials = sweep.adopt(chosen)
        kept = {one.trial.folder for one in standings(sweep) if _is_left_alone(one, configs)}
        for trial in trials:
            if trial.folder not in kept:
                freeze({**configs[trial.folder], "run_dir": str(sweep.folder(trial))})
        sweep.write()
        if kept:
            print(f"{len(kept)} of {len(trials)} trials are finished or under way", file=sys.stderr)
        return start(sweep, [trial for trial in trials if trial.folder not in kept])
    finally:
        lease.let_go()


def _folder(swept: Sequence[str]) -> str:
    name = ",".join(swept).replace("/", "_")
    ordinary = name and len(name.encode()) <= _LONGEST and name.isprintable() and not re.search(r"[\"\\\\]", name)
    return name if ordinary else f"trial-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _check(one: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    """Raises an InputError unless a trial's config can be started together with that of the first."""
    if one["run_dir"] != first["run_dir"]:
        raise InputError(
            f"the trials would lie in different places ('{first['run_dir']}', '{one['run_dir']}'); give run_dir=DIR "
            "for the sweep as a whole"
        )
    kind = one["launcher"]["kind"]
    if kind not in (LOCAL, SLURM):
        raise InputError(f"launcher={kind} starts no sweep; choices for -m: launcher={LOCAL}, launcher={SLURM}")
    if kind == SLURM:
        check(one)
        apart = [key for key in difference(_job(first), _job(one)) if not key.startswith("name")]
        if apart:
            raise InputError(f"{apart[0]} differs between trials, and one array job has one of it; sweep over others")


def _job(one: Mapping[str, Any]) -> dict[str, Any]:
    trainer = {key: one["trainer"][key] for key in ("devices", "num_nodes", "accelerator")}
    return {"name": one["name"], "launcher": one["launcher"], "trainer": trainer}


def _sweep(path: Path, first: Mapping[str, Any], overrides: Sequence[str]) -> Sweep:
    """The sweep in ``path``, to be started as ``first`` says; an earlier one's trials stay."""
    known = record.read(path).trials if (path / record.FILE).exists() else []
    trust = [one for one in overrides if key_of(one) in COMMAND_LINE]
    return Sweep(path, os.getcwd(), _job(first), trust, known)


def _is_left_alone(one: Standing, configs: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a trial needs no start: it is in Slurm's queue, or has all the steps that are wanted now."""
    if one.trial.folder not in configs:
        return False
    done = one.run is not None and one.state == DONE and one.run.step >= configs[one.trial.folder]["max_steps"]
    return done or bool(one.job)

"""``pretrain -m``: a sweep, a run for each combination of values or for each choice of an optimizer."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Glob

from data.errors import InputError
from pretrain import config, launch
from pretrain.config import difference
from pretrain.ending import DONE
from pretrain.grammar import key_of, parse
from pretrain.launchers.frozen import freeze
from pretrain.launchers.options import LOCAL, SLURM
from pretrain.launchers.starting import check
from pretrain.lease import leased
from pretrain.sweeps import record, search
from pretrain.sweeps.options import GRID, OPTUNA
from pretrain.sweeps.record import Sweep, Trial
from pretrain.sweeps.standing import PRUNED, Standing, standings
from pretrain.sweeps.starting import start
from pretrain.targets import COMMAND_LINE

_LONGEST = 200


def multirun(overrides: Sequence[str], config_dir: str | None = None, file: str | None = None) -> int:
    """Starts every trial that is not under way; the same command continues a sweep, or lets it grow.

    Returns:
        The worst exit code of the runs; 0 where Slurm has taken them.

    Raises:
        InputError: a combination does not compose, noticed before the first run starts; or somebody else is at work
            on the sweep.
    """
    if launch.launched():
        raise InputError("-m was given to a process that a launcher has started; give it to one process")
    if any(key_of(one) == "sweeper" and not one.endswith(f"={GRID}") for one in overrides):
        return _search(overrides, config_dir, file)
    given = {tuple(one for one in each if one not in overrides): each for each in combinations(overrides)}
    loaded = {swept: config.load(each, config_dir, file) for swept, each in given.items()}
    first = next(iter(loaded.values()))
    for one in loaded.values():
        _check(one, first)
    with _opened(first, overrides) as sweep:
        chosen = folders(list(given), sweep.trials)
        whole = {folder: given[swept] for folder, swept in chosen.items()}
        configs = {folder: loaded[swept] for folder, swept in chosen.items()}
        trials = sweep.adopt(chosen)
        asked = [one for one in standings(sweep, settled=True) if one.trial.folder in configs]
        kept = {one.trial.folder for one in asked if _is_left_alone(one, configs[one.trial.folder])}
        for trial in trials:
            if trial.folder not in kept:
                own = {**configs[trial.folder], "run_dir": str(sweep.folder(trial))}
                freeze(own, partial(config.written, whole[trial.folder], config_dir, file))
        return _start(sweep, trials, kept)


def combinations(overrides: Sequence[str]) -> list[list[str]]:
    """The override lists of a sweep, in Hydra's sweep grammar (``a=1,2``, ``a=choice(1,2)``, ``a=range(1,4)``).

    Raises:
        InputError: an override is malformed, or does not say how many values there are.
    """
    axes = []
    for one in parse(overrides):
        if one.is_interval_sweep():
            raise InputError(f"'{one.input_line}' has no end of values; choices: a list of them, sweeper=optuna")
        if isinstance(one.value(), Glob):
            raise InputError(f"'{one.input_line}' is not taken here; choices: a list of values")
        if not one.is_sweep_override():
            axes.append([str(one.input_line)])
            continue
        axes.append([f"{one.get_key_element()}={value}" for value in one.sweep_string_iterator()])
        if not axes[-1]:
            raise InputError(f"'{one.input_line}' has no values")
    return [list(combination) for combination in itertools.product(*axes)]


def _search(overrides: Sequence[str], config_dir: str | None, file: str | None) -> int:
    """The same for trials whose values an optimizer chooses."""
    parsed = parse(overrides)
    space = [str(one.input_line) for one in parsed if one.is_sweep_override()]
    if not space:
        raise InputError("sweeper=optuna has nothing to choose; give KEY=interval(1,10), KEY=A,B or KEY=range(1,10)")
    fixed = [one for one in overrides if one not in space]
    base = config.load(fixed, config_dir, file)
    _check(base, base, OPTUNA)
    with _opened(base, overrides) as sweep:
        sweep.search = {**base["sweeper"], "seed": base["seed"], "space": space}
        trials = sweep.adopt({f"trial-{number:04d}": [] for number in range(base["sweeper"]["trials"])})
        freeze({**base, "run_dir": str(sweep.path)}, partial(config.written, fixed, config_dir, file))
        search.check(sweep)
        found = standings(sweep, settled=True)
        kept = {one.trial.folder for one in found if _is_left_alone(one, base)}
        for one in found:
            if one.trial.overrides and one.trial.folder not in kept:
                search.refreeze(sweep, one.trial)
        return _start(sweep, trials, kept)


@contextmanager
def _opened(first: Mapping[str, Any], overrides: Sequence[str]) -> Iterator[Sweep]:
    """The sweep that ``first`` lies in, to be started as it says; an earlier one's trials stay. Nobody else has it."""
    path = Path(first["run_dir"]).expanduser().absolute()
    lease = leased(path, first["run_dir"])
    try:
        known = record.read(path) if (path / record.FILE).exists() else None
        kind = first["sweeper"]["kind"]
        if known is not None and bool(known.search) != (kind == OPTUNA):
            raise InputError(f"'{path}' is a sweep of another kind than sweeper={kind}; give another run_dir=...")
        trust = [one for one in overrides if key_of(one) in COMMAND_LINE and not key_of(one).startswith("launcher.")]
        yield Sweep(path, os.getcwd(), _job(first), trust, {}, known.trials if known is not None else [])
    finally:
        lease.let_go()


def _start(sweep: Sweep, trials: Sequence[Trial], kept: set[str]) -> int:
    sweep.write()
    if kept:
        print(f"{len(kept)} of {len(sweep.trials)} trials are finished or under way", file=sys.stderr)
    return start(sweep, [trial for trial in trials if trial.folder not in kept])


def folders(swept: Sequence[tuple[str, ...]], known: Sequence[Trial] = ()) -> dict[str, tuple[str, ...]]:
    """Folder -> what sets its trial apart, of each trial one of its own.

    Args:
        swept: of the trials.
        known: those that the sweep has already; they keep theirs.
    """
    kept = {tuple(trial.overrides): trial.folder for trial in known}
    taken = set(kept.values())
    found: dict[str, tuple[str, ...]] = {}
    for each in swept:
        folder = kept.get(each)
        if folder is None:
            text = ",".join(each)
            name = text.replace("/", "_")
            ordinary = name and len(name.encode()) <= _LONGEST and name.isprintable()
            if not ordinary or re.search(r"[\"\\]", name) or name in taken:  # as a/b is taken where a_b came first
                name = f"trial-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
            taken.add(folder := name)
        found[folder] = each
    return found


def _check(one: Mapping[str, Any], first: Mapping[str, Any], sweeper: str = GRID) -> None:
    """Raises an InputError unless a trial's config can be started together with that of the first."""
    if one["run_dir"] != first["run_dir"]:
        raise InputError(
            f"the trials would lie in different places ('{first['run_dir']}', '{one['run_dir']}'); give run_dir=DIR "
            "for the sweep as a whole"
        )
    if one["sweeper"]["kind"] != sweeper:
        raise InputError(f"sweeper={one['sweeper']['kind']} is for the command line to say, and not for a config file")
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


def _is_left_alone(one: Standing, wanted: Mapping[str, Any]) -> bool:
    """Whether a trial needs no start: it is in Slurm's queue, hopeless, or has all the steps that are wanted now."""
    done = one.run is not None and one.state == DONE and one.run.step >= wanted["max_steps"]
    return done or one.state == PRUNED or bool(one.job)

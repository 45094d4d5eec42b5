"""An optimizer over configs: Optuna chooses a trial's values when its turn comes, and may end it early.

Nothing is kept but what stands in the trials' own directories: the values that were chosen (``launch/chosen.json``),
what was measured, and how the run ended. Optuna's study is made anew from that each time it is asked, so that no second
record can disagree with the first, whoever is killed when.
"""

from __future__ import annotations

import fcntl
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from data.errors import InputError, choices
from pretrain import config
from pretrain.ending import DONE, FAILED
from pretrain.launchers.frozen import CONFIG, FOLDER, freeze, put
from pretrain.run import METRICS
from pretrain.sweeps.record import CHOSEN, Sweep, Trial
from pretrain.sweeps.standing import PRUNED, Standing, standings

if TYPE_CHECKING:
    import optuna

_LOCK = "search.lock"
_HELDOUT = "heldout/"


class UnfitError(InputError):
    """Values that were chosen for a trial make no config; others may."""


def check(sweep: Sweep) -> None:
    """Checks that values can be chosen.

    Raises:
        InputError: Optuna is not installed, or the space is none, or holds what is not in the config.
    """
    params = {key: _any(found) for key, found in _space(sweep).items()}
    _config(sweep, _overrides(params), sweep.trials[0])


def choose(sweep: Sweep, trial: Trial) -> None:
    """Chooses the values of ``trial``, unless that was done before, and freezes its config.

    Raises:
        UnfitError: the config that came out is none.
        InputError: the metric is not one that trials measure.
    """
    folder = sweep.folder(trial) / FOLDER
    chosen = folder / CHOSEN
    with _alone(sweep):
        if not chosen.exists():
            study, _ = _study(sweep, seed=trial.number)
            params = study.ask(_space(sweep)).params
            overrides = _overrides(params)
            try:
                _config(sweep, overrides, trial)
            except InputError as error:  # and is not kept: the space may be mended
                raise UnfitError(f"trial {trial.number} ({', '.join(overrides)}): {error}") from None
            put(chosen, json.dumps({"overrides": overrides, "params": params}) + "\n")
        if not (folder / CONFIG).exists():
            refreeze(sweep, trial)


def refreeze(sweep: Sweep, trial: Trial) -> None:
    """Freezes the config of a trial whose values are chosen: that of the sweep, with them in it."""
    found = json.loads((sweep.folder(trial) / FOLDER / CHOSEN).read_text())
    own = _given(sweep, found["overrides"])
    freeze(_config(sweep, found["overrides"], trial), partial(config.written, **own))


def is_hopeless(sweep: Sweep, trial: Trial) -> bool:
    """Whether ``trial``, which runs, is worse than the median of the finished ones at the step it has measured last."""
    study, numbers = _study(sweep, seed=trial.number)
    for one in study.get_trials(deepcopy=False):
        if numbers[one.number] == trial.number and one.intermediate_values:
            return study.pruner.prune(study, one)
    return False


def noted(sweep: Sweep, trial: Trial) -> int:
    """The last step of which ``trial`` has noted what it measured; -1 before."""
    return max((int(row["step"]) for row in _rows(sweep, trial)), default=-1)


def _config(sweep: Sweep, overrides: list[str], trial: Trial) -> dict[str, Any]:
    return {**config.load(**_given(sweep, overrides)), "run_dir": str(sweep.folder(trial))}


def _given(sweep: Sweep, overrides: list[str]) -> dict[str, Any]:
    return {"overrides": [*sweep.trust, *overrides], "file": str(sweep.path / FOLDER / CONFIG)}


def _study(sweep: Sweep, seed: int) -> tuple[optuna.Study, list[int]]:
    """What the trials' directories say, as Optuna knows it; and the trials' numbers in its order."""
    import optuna

    search, space = sweep.search, _space(sweep)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Another seed for each trial: with the same one, a study that is made anew would draw what it drew before.
    sampler = optuna.samplers.TPESampler(seed=search["seed"] + seed, constant_liar=True)
    pruner = optuna.pruners.MedianPruner(search["prune_after_trials"], search["prune_after_step"])
    best = optuna.study.StudyDirection.MINIMIZE if search["mode"] == "min" else optuna.study.StudyDirection.MAXIMIZE
    study, numbers = optuna.create_study(sampler=sampler, pruner=pruner, direction=best), []
    for one in standings(sweep, queue=False):
        path = sweep.folder(one.trial) / FOLDER / CHOSEN
        if not path.exists():
            continue
        values, params = _measured(sweep, one), json.loads(path.read_text())["params"]
        state = _state(one, bool(values))
        value = values[max(values)] if state == optuna.trial.TrialState.COMPLETE else None
        try:
            frozen = optuna.trial.create_trial(
                state=state, value=value, params=params, distributions=space, intermediate_values=values
            )
        except ValueError:  # chosen from another space, before the command was changed: it says nothing about this one
            continue
        study.add_trial(frozen)
        numbers.append(one.trial.number)
    return study, numbers


def _state(one: Standing, measured: bool) -> optuna.trial.TrialState:
    from optuna.trial import TrialState

    if one.state == DONE and measured:
        return TrialState.COMPLETE
    if one.state == PRUNED:
        return TrialState.PRUNED
    return TrialState.FAIL if one.state in (DONE, FAILED) else TrialState.RUNNING


def _measured(sweep: Sweep, one: Standing) -> dict[int, float]:
    """Step -> value of the metric, of one trial.

    Raises:
        InputError: it has come to its end and measured others, but not this one.
    """
    rows, metric = _rows(sweep, one.trial), _HELDOUT + sweep.search["metric"]
    found: dict[int, float] = {}
    for row in rows:  # not all have all: an evaluator may measure less often than others
        if metric in row:
            found[int(row["step"])] = float(row[metric])
    if rows and not found and one.state == DONE:
        wanted, names = metric.removeprefix(_HELDOUT), {name: None for row in rows for name in row}
        measured = [name.removeprefix(_HELDOUT) for name in names if name.startswith(_HELDOUT)]
        raise InputError(f"sweeper.metric '{wanted}': {choices(wanted, measured)}")
    return found


def _rows(sweep: Sweep, trial: Trial) -> list[dict[str, Any]]:
    """The few rows of many in which a trial has noted what it measured on held-out data."""
    path = sweep.folder(trial) / METRICS
    if not path.exists():
        return []
    with open(path) as file:
        return [json.loads(line) for line in file if f'"{_HELDOUT}' in line and line.endswith("\n")]


def _space(sweep: Sweep) -> dict[str, Any]:
    try:
        from pretrain.sweeps.space import distributions
    except ModuleNotFoundError as error:
        raise InputError(
            f"sweeper=optuna needs the package '{error.name}', which is not installed: pip install 'optuna>=4,<6'; "
            "choices without it: sweeper=grid"
        ) from None
    return distributions(sweep.search["space"])


def _overrides(params: dict[str, Any]) -> list[str]:
    from pretrain.sweeps.space import overrides

    return overrides(params)


def _any(found: Any) -> Any:
    return found.choices[0] if hasattr(found, "choices") else found.low


@contextmanager
def _alone(sweep: Sweep) -> Iterator[None]:
    """Trials that begin at the same time choose one after the other, each knowing what the other has chosen."""
    with open(sweep.path / _LOCK, "a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX)
        except OSError as error:
            print(
                f"the file system of '{sweep.path}' has no locks ({error.strerror}): trials that begin at the same "
                "time may choose alike",
                file=sys.stderr,
                flush=True,
            )
        yield

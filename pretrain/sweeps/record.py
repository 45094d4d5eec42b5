"""``SWEEP/sweep.json``: which trials a sweep has, and how they are started. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from data.errors import InputError
from pretrain.launchers.frozen import FOLDER, put

FILE = "sweep.json"
CHOSEN, PRUNED_FILE, LET_GO_ON = "chosen.json", "pruned.json", "let-go-on.json"
"""In a trial's ``launch/``: the values that an optimizer chose for it, that it was ended early, as hopeless, and that
somebody wants to see its end all the same."""


@dataclass(frozen=True)
class Trial:
    """One of a sweep's runs.

    Attributes:
        number: counted from 0; stays when the sweep grows.
        folder: its run directory, below that of the sweep.
        overrides: what sets it apart from the others; [] of an optimizer's trial whose values are still to be chosen.
    """

    number: int
    folder: str
    overrides: list[str]


@dataclass
class Sweep:
    """A directory of runs that belong together.

    Attributes:
        path: the directory, absolute.
        home: where the command was given: relative paths of the configs begin there.
        job: what a job is made from, the same in all trials: ``name``, ``launcher`` and ``trainer`` of their config.
        trust: overrides that say whom the user trusts, for every start.
        search: of an optimizer: its ``sweeper``, ``seed`` and ``space`` (overrides with intervals); {} for a grid.
        trials: in the order of their numbers.
    """

    path: Path
    home: str
    job: dict[str, Any]
    trust: list[str]
    search: dict[str, Any] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)

    @property
    def launcher(self) -> str:
        """Its kind."""
        return str(self.job["launcher"]["kind"])

    def folder(self, trial: Trial) -> Path:
        """The run directory of ``trial``."""
        return self.path / trial.folder

    def adopt(self, chosen: Mapping[str, Sequence[str]]) -> list[Trial]:
        """Takes in trials, new ones behind those that are there; the ones asked for.

        Args:
            chosen: folder -> overrides.
        """
        known = {trial.folder: trial for trial in self.trials}
        for folder, overrides in chosen.items():
            if folder not in known:
                known[folder] = Trial(len(known), folder, list(overrides))
        self.trials = list(known.values())
        return [known[folder] for folder in chosen]

    def write(self) -> None:
        """Puts ``sweep.json`` in place; what an optimizer chose stands with the trials alone.

        Raises:
            InputError: it cannot be written.
        """
        about = {"home": self.home, "job": self.job, "trust": self.trust, "search": self.search}
        trials = [asdict(replace(one, overrides=[]) if self.search else one) for one in self.trials]
        put(self.path / FILE, json.dumps({**about, "trials": trials}, indent=1) + "\n")


def read(place: str | Path) -> Sweep:
    """The sweep in the directory ``place``.

    Raises:
        InputError: there is none, or its file is damaged.
    """
    path = Path(place).expanduser().absolute()
    try:
        found = json.loads((path / FILE).read_text())
        search, trials = dict(found["search"]), []
        for one in found["trials"]:
            folder = str(one["folder"])
            overrides = _chosen(path / folder) if search else list(one["overrides"])
            trials.append(Trial(int(one["number"]), folder, overrides))
        return Sweep(path, found["home"], dict(found["job"]), list(found["trust"]), search, trials)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"'{place}' is no sweep: it has no {FILE}; `pretrain -m KEY=A,B run_dir=DIR` makes one"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{path / FILE}' cannot be read: {type(error).__name__}: {error}") from None


def _chosen(folder: Path) -> list[str]:
    path = folder / FOLDER / CHOSEN
    return list(json.loads(path.read_text())["overrides"]) if path.exists() else []

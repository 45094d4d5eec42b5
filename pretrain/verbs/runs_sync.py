"""``pretrain runs sync``: gives trackers what they lack of a run; also what a run starts beside itself."""

from __future__ import annotations

import argparse
import os
import threading
import time
from pathlib import Path
from typing import Any

from data.errors import InputError, choices
from pretrain.run import RunDirectory
from pretrain.trackers.mirror import Mirror, trackers_of
from pretrain.trackers.process import GRACE_S
from pretrain.trackers.settled import last_settled
from pretrain.trackers.tracker import Tracker

_LATE = 75  # the exit code of what may be tried again


def add_options(verb: argparse.ArgumentParser) -> None:
    """The verb's own options."""
    verb.add_argument("--tracker", metavar="NAME", help="only this one of the run's trackers")
    verb.add_argument("--offline", action="store_true", help="wandb: into files, for `wandb sync` from elsewhere")
    verb.add_argument("--patience", metavar="S", type=float, default=90.0, help="seconds for a service to answer")
    verb.add_argument("--with-trainer", action="store_true", help=argparse.SUPPRESS)


def sync(folder: Path, arguments: argparse.Namespace) -> None:
    """Delivers, and says what.

    Raises:
        InputError: the run has no such tracker, or its files are damaged.
        RunError: a tracker cannot be reached, or another process is at it.
    """
    if arguments.patience <= 0:
        raise InputError(f"--patience {arguments.patience:g} is not above 0")
    config = RunDirectory(str(folder), rank=-1).frozen_config()
    loggers: dict[str, Any] = dict((config or {}).get("logger") or {})
    if not loggers:
        raise InputError(f"'{folder}' has no tracker; continue it with logger=auto, wandb or tensorboard")
    if arguments.tracker is not None and arguments.tracker not in loggers:
        raise InputError(f"--tracker '{arguments.tracker}' is none of the run's; {choices(arguments.tracker, loggers)}")
    for node in loggers.values():
        if arguments.offline and "mode" in node:
            node["mode"] = "offline"
    ending = threading.Event()
    ending.set()
    for name, tracker in trackers_of({"logger": loggers}, folder.absolute()).items():
        if arguments.tracker not in (None, name):
            continue
        if not tracker.wanted:
            print(f"{folder}: nothing to {name}, to which this host is not logged in; `wandb login`, or give --offline")
            continue
        patience = arguments.patience
        if arguments.with_trainer:
            patience = GRACE_S - 5.0
            ending.clear()
            threading.Thread(target=_watch, args=(ending, tracker), name="trainer's end", daemon=True).start()
        mirror = Mirror(folder.absolute(), tracker, patience)
        mirror.run(ending, wait=arguments.with_trainer)
        stands = last_settled(folder)
        back = f"; the run has gone back to step {stands}" if mirror.step > stands else ""
        print(f"{folder}: {mirror.sent} rows to {tracker.key}, which has them up to step {mirror.step}{back}")


def _watch(ending: threading.Event, tracker: Tracker) -> None:
    """Sets ``ending`` when the trainer is gone, and ends this process if it is not done soon after."""
    while os.read(0, 1):
        pass  # nobody writes; what is awaited is the end
    ending.set()
    time.sleep(GRACE_S)
    tracker.abandon()
    os._exit(_LATE)

"""Which process of how many this is, before any process group exists: under torchrun, srun, or alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data.errors import InputError
from data.loading.units import share_of
from data.loading.watch import check_times


@dataclass(frozen=True)
class Process:
    """One of the processes that work on a run together.

    Attributes:
        rank: its number, 0 for the one that writes what is common.
        world_size: how many there are.
        launcher: ``torchrun``, ``srun``, or ``own`` where this framework starts the others itself.
    """

    rank: int
    world_size: int
    launcher: str


def this_process(devices: int, num_nodes: int, environment: Mapping[str, str] = os.environ) -> Process:
    """What the launcher's environment says, which must agree with the config.

    Raises:
        InputError: the launcher started another number of processes than ``devices`` x ``num_nodes``.
    """
    wanted = devices * num_nodes
    if "RANK" in environment and "WORLD_SIZE" in environment:
        # First, as torchrun may itself run inside a Slurm allocation.
        process = Process(int(environment["RANK"]), int(environment["WORLD_SIZE"]), "torchrun")
    elif int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        process = Process(int(environment["SLURM_PROCID"]), int(environment["SLURM_STEP_NUM_TASKS"]), "srun")
    else:
        rank = int(environment.get("NODE_RANK", "0")) * devices + int(environment.get("LOCAL_RANK", "0"))
        process = Process(rank, wanted, "own")
    if process.world_size != wanted:
        raise InputError(
            f"{process.launcher} started {process.world_size} processes, but trainer.devices={devices} x "
            f"trainer.num_nodes={num_nodes} is {wanted}; make them agree"
        )
    return process


def check_spread(config: Mapping[str, Any], world_size: int) -> None:
    """Checks what the config alone says about a run of ``world_size`` processes, before any of them is started.

    Raises:
        InputError: a batch cannot be dealt evenly, or a loader that stalls would be named only after another rank gave
            up waiting.
    """
    for name, spec in config["tasks"].items():
        share_of(name, spec["batch_size"], world_size)
    deadline, timeout = config["loader"]["deadline_s"], config["trainer"]["timeout_s"]
    check_times(config["loader"]["warn_after_s"], deadline)
    if world_size > 1 and deadline >= timeout:
        raise InputError(
            f"loader.deadline_s={deadline:g} must be less than trainer.timeout_s={timeout}: else a loader that stalls "
            "ends the run by another rank's timeout, which does not name it"
        )

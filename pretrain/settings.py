"""What a run is refused for by its settings alone, whatever its data are: one list for the run and for its plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.errors import InputError
from pretrain.build import make
from pretrain.checkpoint.retention import retention_of
from pretrain.exact import check_exact
from pretrain.faults import Faults
from pretrain.optim.ema import check_average
from pretrain.optim.schedules import Schedule
from pretrain.trackers.mirror import trackers_of

_WHETHER = ("true", "false", "yes", "no", "latest", "none")


def check_settings(config: Mapping[str, Any], world_size: int) -> Faults:
    """All that is wrong with them.

    Args:
        config: of the run, resolved.
        world_size: devices of all nodes.
    """
    faults = Faults()
    with faults.noted():
        check_beginning(config)
    with faults.noted():
        schedule_of(config)
    with faults.noted():
        check_average(config)
    with faults.noted():
        retention_of(config["checkpoint"])
    with faults.noted():
        trackers_of(config, Path(config["run_dir"]))
    with faults.noted():
        if config["trainer"]["deterministic"] == "exact":
            check_exact(config, world_size)
    for name, node in config["evaluators"].items():
        with faults.noted():
            make(node, f"evaluators.{name}", tuple(config["trusted_roots"]))
    return faults


def remark(config: Mapping[str, Any]) -> str | None:
    """A line for a person if settings that are no fault teach less than they seem to."""
    if config["trainer"]["precision"] != "bf16-true":
        return None
    return (
        "trainer.precision=bf16-true keeps weights and the optimizer's averages in bfloat16 alone: updates below 1/256 "
        "of a weight are rounded away, so that norms, scales and temperatures may never move; "
        "trainer.precision=bf16-mixed computes in bfloat16 and trains all of them"
    )


def check_beginning(config: Mapping[str, Any]) -> None:
    """Checks what the run is to go on with, or to begin with.

    Raises:
        InputError: both are named, or it is said whether instead of with what.
    """
    if config["resume"].lower() in _WHETHER and not Path(config["resume"]).exists():
        raise InputError(
            f"resume={config['resume']} names no run; a run goes on where it stands by itself (resume=auto): "
            "give its run_dir, or the directory of another one"
        )
    if config["init_from"] is not None and config["resume"] != "auto":
        raise InputError(
            "resume and init_from exclude one another: resume goes on with a run, init_from begins a new one"
        )


def check_places(config: Mapping[str, Any]) -> None:
    """Checks that what a run that is new would go on or begin with is there; one that stands needs neither any more.

    Raises:
        InputError: it is not.
    """
    for word in ("init_from", "resume"):
        place = config[word]
        if isinstance(place, str) and place != "auto" and not Path(place).expanduser().exists():
            raise InputError(f"{word} '{place}' does not exist")


def schedule_of(config: Mapping[str, Any]) -> Schedule:
    """The course of the learning rate.

    Raises:
        InputError: a setting of it is wrong.
    """
    samples = sum(spec["batch_size"] for spec in config["tasks"].values())
    timing = {"max_steps": config["max_steps"], "samples_a_step": samples}
    schedule: Schedule = make(config["schedule"], "schedule", tuple(config["trusted_roots"]), **timing)
    return schedule

"""The keys of ``launcher``, for each kind of it; see ``conf/launcher``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from data.errors import InputError, choices
from pretrain.schema import at_least

LOCAL, TORCHRUN, SLURM = "local", "torchrun", "slurm"
_LIMIT = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)")
_WORD = re.compile(r"[\w.,:@%=+&|*()\[\]/-]+")
_ENDPOINT = re.compile(r"([\w.-]+|\[[\da-fA-F:.]+\])(:\d+)?")
_EARLY_S = 60  # Slurm signals as much earlier than asked: its clock is coarse


def check_word(value: str | None, where: str) -> None:
    """Raises an InputError for what would not stay one word in a line of a script."""
    if value is not None and not _WORD.fullmatch(value):
        raise InputError(f"{where}={value!r} is no single word of letters, digits and .,:@%=+&|*()[]/-")


def check_endpoint(value: str | None, where: str) -> None:
    """Raises an InputError for what is no place for hosts to meet."""
    if value is not None and not _ENDPOINT.fullmatch(value):
        raise InputError(f"{where}={value!r} is no HOST:PORT, such as node1:29400 or [fd00::1]:29400")


def check_limit(value: str | None, where: str) -> None:
    """Raises an InputError for a time that people and Slurm may read differently, as ``30:00``."""
    if value is not None and not _LIMIT.fullmatch(value):
        raise InputError(f"{where}={value} is no time limit; give [D-]HH:MM:SS in quotes, such as '12:00:00'")


def check_options(value: list[str], where: str) -> None:
    """Raises an InputError for an option that is none, or that would end its line."""
    for one in value:
        if not one.startswith("-") or "\n" in one:
            raise InputError(f"{where}: {one!r} is no option; give such as --exclusive or --nodelist=n1")


@dataclass
class LocalConfig:
    """This process, or processes that it starts, trains."""

    kind: str = MISSING


@dataclass
class TorchrunConfig:
    """``torchrun`` starts the processes of this host."""

    kind: str = MISSING
    start: bool = MISSING
    rendezvous: str | None = field(default=MISSING, metadata={"check": check_endpoint})
    min_nodes: int | None = at_least(1)
    max_restarts: int = at_least(0)


@dataclass
class SlurmConfig:
    """``sbatch`` takes a script, and Slurm runs it when there is room."""

    kind: str = MISSING
    start: bool = MISSING
    partition: str | None = field(default=MISSING, metadata={"check": check_word})
    account: str | None = field(default=MISSING, metadata={"check": check_word})
    qos: str | None = field(default=MISSING, metadata={"check": check_word})
    constraint: str | None = field(default=MISSING, metadata={"check": check_word})
    time: str | None = field(default=MISSING, metadata={"check": check_limit})
    signal_before_s: int = at_least(1)
    gpus_per_node: int | None = at_least(0)
    cpus_per_task: int | None = at_least(1)
    mem: str | None = field(default=MISSING, metadata={"check": check_word})
    at_once: int | None = at_least(1)
    options: list[str] = field(default=MISSING, metadata={"check": check_options})
    srun_options: list[str] = field(default=MISSING, metadata={"check": check_options})
    setup: list[str] = MISSING


_KINDS = {LOCAL: LocalConfig, TORCHRUN: TorchrunConfig, SLURM: SlurmConfig}


def kind_of(node: Any) -> type:
    """The class with the keys of the ``launcher`` node.

    Raises:
        InputError: it is of no known kind.
    """
    kind = node.get("kind") if isinstance(node, dict) else node
    if kind not in _KINDS:
        raise InputError(f"launcher.kind '{kind}' is not there; {choices(str(kind), _KINDS)}")
    return _KINDS[kind]


def check_time(options: dict[str, Any]) -> None:
    """Checks that a job is not told to save as soon as it begins.

    Args:
        options: a ``launcher`` of kind slurm.

    Raises:
        InputError: it would be.
    """
    limit = _LIMIT.fullmatch(options["time"] or "")
    if limit is None:
        return
    days, hours, minutes, seconds = (int(part or 0) for part in limit.groups())
    total, before = ((days * 24 + hours) * 60 + minutes) * 60 + seconds, options["signal_before_s"]
    if total <= before + _EARLY_S:
        raise InputError(
            f"launcher.time={options['time']} leaves no time to train: launcher.signal_before_s={before} comes up to "
            f"{_EARLY_S} s early; give a longer limit or a shorter warning"
        )

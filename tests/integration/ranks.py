"""Runs of several processes, forked so that torch is imported once; what a launcher sets is set in each."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from tests.integration.runs import start, wait


def start_together(
    world_size: int, arguments: Sequence[str], sabotage: Mapping[int, Callable[[], None]] | None = None
) -> list[int]:
    """Forks the ranks of ``pretrain ARGUMENTS trainer.devices=WORLD_SIZE``, as torchrun would; their ids by rank.

    ``sabotage`` is called in the ranks that it names, before anything else.
    """
    if world_size == 1:
        return [start(arguments)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size, "GROUP_RANK": 0, "MASTER_PORT": port}
    common |= {"MASTER_ADDR": "127.0.0.1"}
    devices = f"trainer.devices={world_size}"
    return [
        start(
            [*arguments, devices],
            partial(_set, {**common, "RANK": rank, "LOCAL_RANK": rank}, (sabotage or {}).get(rank)),
        )
        for rank in range(world_size)
    ]


def run_together(world_size: int, arguments: Sequence[str], seconds: float = 240) -> list[int]:
    """Runs them to their end; the exit code of each rank."""
    return [wait(pid, seconds) for pid in start_together(world_size, arguments)]


def _set(environment: dict[str, object], sabotage: Callable[[], None] | None = None) -> None:
    os.environ |= {key: str(value) for key, value in environment.items()}
    if sabotage:
        sabotage()

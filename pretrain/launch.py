"""Starts the processes of a run on this host, where no launcher did, and sees to it that they end together.

The parent imports no torch and keeps nothing: it starts a process a device, passes signals on, and waits. How ranks
find out about one another's end is for :mod:`pretrain.lifeline`; here is only the last resort.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType

from data.errors import InputError
from pretrain.said import Together, together
from pretrain.signals import REQUEUEING, SIGNALS, STOPPING, heeded

PRETRAIN = (sys.executable, "-P", "-m", "pretrain")
"""The command of another process of ours; no file of the folder it is started in takes the place of a module."""

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.05
_UNMET_S = 10.0  # for ranks that come to the same end, a moment later
_GRACE_S = 30.0  # beyond the time in which ranks notice by themselves that one is gone


def needed(devices: int, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is to start others: several are wanted, and no launcher has started this one."""
    return devices > 1 and not launched(environment)


def launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a launcher has started this process as one of several."""
    ranked = ("RANK" in environment and "WORLD_SIZE" in environment) or "LOCAL_RANK" in environment
    return ranked or int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def first(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is the process, or the only one, that speaks to the terminal."""
    return environment.get("RANK", environment.get("SLURM_PROCID", "0")) == "0"


def launch(arguments: Sequence[str], devices: int, num_nodes: int, silence_s: float) -> int:
    """Runs ``pretrain ARGUMENTS`` once a device; returns rank 0's exit code, or that of who failed first.

    Args:
        arguments: of the command line.
        devices: processes on this host.
        num_nodes: hosts on which this same command is given.
        silence_s: in which the ranks notice that one of them is gone.

    Raises:
        InputError: several hosts, but not said which one this is and where they meet.
    """
    environment, node = _meeting(num_nodes)
    children = []
    with together() as family:
        for local in range(devices):
            rank = {"RANK": node * devices + local, "LOCAL_RANK": local, "WORLD_SIZE": devices * num_nodes}
            rank |= {"LOCAL_WORLD_SIZE": devices, "GROUP_RANK": node}
            children.append(
                subprocess.Popen(
                    [*PRETRAIN, *arguments],
                    env={
                        **os.environ,
                        **environment,
                        **family.environment,
                        **{key: str(value) for key, value in rank.items()},
                    },
                    process_group=0,  # a terminal's Ctrl-C reaches the parent alone, which passes it on once
                    preexec_fn=be_a_child,
                )
            )
        return _supervise(children, silence_s, family)


def _meeting(num_nodes: int) -> tuple[dict[str, str], int]:
    if num_nodes == 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}, 0
    missing = [key for key in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(key)]
    if missing:
        raise InputError(
            f"trainer.num_nodes={num_nodes} needs {', '.join(missing)} in the environment of each host; or use "
            "torchrun or srun, which set them"
        )
    return {}, int(os.environ["NODE_RANK"])


def be_a_child() -> None:
    """Ties a process that was just forked to this one, which passes signals on to it."""
    # What comes before it listens (see Signals.listen) waits for that, and does not end it as if it knew no signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    # If the parent is killed, its children are asked to save and stop, as by a scheduler.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _supervise(children: Sequence[subprocess.Popen[bytes]], silence_s: float, family: Together) -> int:
    def forward(number: int, frame: FrameType | None) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    former = {number: signal.signal(number, forward) for number in heeded()}
    SIGNALS.running = True  # what this process was sent is for the children to act on
    for number in (SIGNALS.received, REQUEUEING[0] * SIGNALS.requeueing):
        if number:  # noted while they were started
            forward(number, None)
    try:
        deadline, failed = float("inf"), 0
        while any(child.poll() is None for child in children):
            codes = [child.returncode for child in children if child.returncode]
            if codes and not failed:
                # Before they have met, the others would wait for the one that has ended; they have nothing to save.
                patience = silence_s + _GRACE_S if family.met else _UNMET_S
                failed, deadline = codes[0], time.monotonic() + patience
            if time.monotonic() > deadline:
                for child in children:
                    child.kill()
            time.sleep(_POLL_S)
        code = children[0].returncode or failed
        return int(code) if code >= 0 else 1
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)

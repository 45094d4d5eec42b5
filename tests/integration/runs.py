"""Runs of the real command line in processes of their own, forked so that torch is imported once."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import pretrain.train  # noqa: F401 - what takes seconds to import is imported before the fork, once
from pretrain import checkpoint
from pretrain.cli import main

# Every modality at the smallest sizes, with everything that draws random numbers switched on.
SMALL = [
    "data.vocab_size=320",
    "max_steps=12",
    "checkpoint.every_n_steps=3",
    "evaluate.every_n_steps=5",
    "evaluate.samples=8",
    "evaluate.batch_size=4",
    "trainer.threads=1",
    "loader.workers=0",
    "logger=none",
    "schedule.warmup_steps=2",
    *(
        f"encoders.{name}.{key}"
        for name in ("text", "image", "audio")
        for key in ("width=16", "depth=1", "heads=2", "dropout=0.1")
    ),
    "encoders.audio.channels=8",
    *(f"tasks.{name}.batch_size=4" for name in ("mlm", "clip", "clap", "wav2vec")),
    *(f"tasks.{name}.prepare.b.max_tokens=24" for name in ("clip", "clap")),
    "tasks.mlm.prepare.max_tokens=24",
    *(f"tasks.wav2vec.objective.{key}" for key in ("latent_vars=8", "latent_dim=8", "final_dim=8")),
    "tasks.wav2vec.prepare.num_negatives=5",
]

# The same of text alone.
TEXT = [one for one in SMALL if not one.startswith(("encoders.image", "encoders.audio", "tasks.c", "tasks.wav"))]
TEXT = ["experiment=mlm_tiny", *TEXT]


def start(arguments: Sequence[str], before: Callable[[], None] | None = None) -> int:
    """Forks a process that runs ``pretrain ARGUMENTS``; ``before`` may sabotage it first. Returns its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        errors = os.environ.get("PRETRAIN_TEST_STDERR")
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if errors else quiet, 2)
        # Under pytest these are not what the descriptors are.
        sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
        faulthandler.enable(2)
        torch.set_num_threads(1)
        if before:
            before()
        code = main(list(arguments))
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001 - the process ends here, and its end must not reach pytest
        import traceback

        traceback.print_exc()
        code = 1
    os._exit(code)


def wait(pid: int, seconds: float = 120) -> int:
    """The exit code of a process, negative for the signal that ended it.

    ``seconds`` are those in which this process runs: a host that sleeps ends nobody's patience. Who is not done by then
    is ended, and says where all its threads are.
    """
    left, last = seconds, time.monotonic()
    while left > 0:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
        now = time.monotonic()
        left, last = left - min(now - last, 0.1), now
    os.kill(pid, signal.SIGABRT)
    os.waitpid(pid, 0)
    raise AssertionError(f"still running after {seconds} s")


def run(arguments: Sequence[str], seconds: float = 120) -> int:
    """Runs ``pretrain ARGUMENTS`` to its end, within ``seconds``."""
    return wait(start(arguments), seconds)


def kill_at(arguments: Sequence[str], run_dir: Path, step: int, later: float = 0.0) -> bool:
    """Starts a run and kills it ``later`` seconds after it has written the row of ``step``; False if it had ended."""
    pid = start(arguments)
    while not (run_dir / "metrics.jsonl").exists() or step not in steps(run_dir):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(0.01)
    time.sleep(later)
    os.kill(pid, signal.SIGKILL)
    return wait(pid) == -signal.SIGKILL


def outcome(run_dir: Path) -> tuple[str, bytes, bytes]:
    """What must be equal: digest of weights, optimizer, positions and schedule; metrics.jsonl; results.json."""
    content = checkpoint.find(run_dir)
    return checkpoint.digest(content), (run_dir / "metrics.jsonl").read_bytes(), (run_dir / "results.json").read_bytes()


def steps(run_dir: Path) -> list[int]:
    """The ``step`` of each row of metrics.jsonl."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines(keepends=True)
    return [json.loads(line)["step"] for line in lines if line.endswith("\n")]

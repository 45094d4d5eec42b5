"""Kills and signals at random instants, until a run is through; what it comes to must be what its twin came to."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pretrain import checkpoint
from pretrain.callbacks import evaluation
from pretrain.signals import EXIT_INTERRUPTED, EXIT_STOPPED
from tests.integration.ranks import start_together
from tests.integration.runs import outcome, wait

_PHASE = mmap.mmap(-1, 1)  # shared with the forked run: whether it measures


@dataclass
class Tally:
    """What was done to a run, and what became of it.

    Attributes:
        phases: where the run was when it was hit -> how often.
        codes: exit codes of what was signalled -> how often.
        seconds: from a signal to the end, each.
        whole: runs that came to their end and equal the twin.
        wrong: what did not, in words.
    """

    phases: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    whole: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def hits(self) -> int:
        """Times that a run was hit before it was done."""
        return sum(self.phases.values())


@contextlib.contextmanager
def phases_marked() -> Iterator[None]:
    """Within, runs that are forked tell whether they measure."""
    measure = evaluation.measure

    def marked(*arguments: object) -> object:
        _PHASE[0] = 1
        try:
            return measure(*arguments)  # type: ignore[arg-type]
        finally:
            _PHASE[0] = 0

    evaluation.measure = marked  # type: ignore[assignment]
    try:
        yield
    finally:
        evaluation.measure = measure


def phase(run_dir: Path, last: int) -> str:
    """What a run that was just killed was at."""
    root = run_dir / "checkpoints"
    if _PHASE[0]:
        return "validate"
    if (root / checkpoint.directory_name(last)).exists():
        return "exit"
    if root.exists() and any(path.name.startswith(".") for path in root.iterdir()):
        return "save"
    progress = run_dir / "progress"
    return "train" if progress.exists() and int(progress.read_text()[:20] or 0) else "init"


def kill_all(pids: Sequence[int], number: int = signal.SIGKILL) -> None:
    """Signals all of them; who is gone is gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def codes_of(pids: Sequence[int], seconds: float = 360) -> list[int]:
    """Their exit codes, negative for the signal that ended them."""
    return [wait(pid, seconds) for pid in pids]


def killed_until_done(
    arguments: Sequence[str],
    run_dir: Path,
    twin: object,
    rng: random.Random,
    tally: Tally,
    length: float,
    world_sizes: Sequence[int] = (1,),
    compare: Callable[[Path], object] = outcome,
) -> None:
    """One run, killed at random instants, all its processes or one of them, and started again until it is through.

    Args:
        arguments: of the run, without ``run_dir``.
        run_dir: of the run; must not be there.
        twin: what ``compare`` says of the run that nobody hits.
        rng: draws the instants.
        tally: goes on counting.
        length: seconds within which a process is hit, if it is not through before; longer after one that came no
            further, as a host that has become slow would let none come further, which ends a run for good.
        world_sizes: numbers of processes that are drawn from at each start.
        compare: run directory -> what must be equal.
    """
    last = [int(a.partition("=")[2]) for a in arguments if a.startswith("max_steps=")][-1]
    reached, longer = 0, 1.0
    while True:
        _PHASE[0] = 0
        pids = start_together(rng.choice(world_sizes), [*arguments, f"run_dir={run_dir}"])
        until = time.monotonic() + rng.uniform(0, longer * length)
        while time.monotonic() < until and not over(pids):
            time.sleep(0.002)
        kill_all(pids if rng.random() < 0.5 else [rng.choice(pids)])
        codes = codes_of(pids)
        if -signal.SIGKILL in codes:
            tally.phases[phase(run_dir, last)] += 1
            before, reached = reached, max(steps_of(run_dir), default=0)
            longer = 1.5 * longer if reached <= before else 1.0
            continue
        if set(codes) != {0}:
            tally.wrong.append(f"{run_dir}: exit codes {codes}")
            return
        if compare(run_dir) == twin:
            tally.whole += 1
        else:
            tally.wrong.append(f"{run_dir}: is not equal to its twin")
        return


def signalled_until_done(
    arguments: Sequence[str],
    run_dir: Path,
    twin: object,
    rng: random.Random,
    tally: Tally,
    length: float,
    compare: Callable[[Path], object] = outcome,
) -> None:
    """One run of one process, signalled at random instants, now and then several times, until it is through.

    What it had done when the signal came must be saved when it ends: no step is done twice.
    """
    signals = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2]
    last = [int(a.partition("=")[2]) for a in arguments if a.startswith("max_steps=")][-1]
    reached = 0
    while True:
        _PHASE[0] = 0
        (pid,) = start_together(1, [*arguments, f"run_dir={run_dir}"])
        until = time.monotonic() + rng.uniform(0.02, length)
        while time.monotonic() < until and not over([pid]):
            time.sleep(0.001)
        done, number, was_at = over([pid]), rng.choice(signals), phase(run_dir, last)
        began = time.monotonic()
        kill_all([pid], number)
        for _ in range(rng.choice((0, 0, 1, 3))):  # others during the save
            time.sleep(rng.uniform(0, 0.05))
            kill_all([pid], rng.choice([n for n in signals if n != signal.SIGINT]))
        code = wait(pid)
        if code and not done:
            tally.phases[was_at] += 1
            tally.codes[code] += 1
            tally.seconds.append(time.monotonic() - began)
            if code != (EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_STOPPED):
                tally.wrong.append(f"{run_dir}: exit code {code} after {signal.Signals(number).name} in {was_at}")
            saved, rows = newest_step(run_dir), steps_of(run_dir)
            if rows and saved != max(rows):
                tally.wrong.append(f"{run_dir}: step {max(rows)} was done, step {saved} is saved ({was_at})")
            if saved < reached:
                tally.wrong.append(f"{run_dir}: went back from step {reached} to {saved}")
            reached = saved
            continue
        if code:
            tally.wrong.append(f"{run_dir}: exit code {code} of a run that was done")
        elif compare(run_dir) == twin:
            tally.whole += 1
        else:
            tally.wrong.append(f"{run_dir}: is not equal to its twin")
        return


def newest_step(run_dir: Path) -> int:
    """The step of the newest checkpoint, 0 if there is none."""
    found = checkpoint.published(run_dir / "checkpoints")
    return checkpoint.step_of(found[0]) if found else 0


def steps_of(run_dir: Path) -> list[int]:
    """The steps that have a row."""
    path = run_dir / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("\n")]


def over(pids: Sequence[int]) -> bool:
    """Whether one of them has ended."""
    return any(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None for pid in pids)

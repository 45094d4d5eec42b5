"""One trial, from the choice of its values to its end: signals are passed on, and what has no prospects is ended."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Sequence
from types import FrameType

from pretrain.evaluation.results import of_its_step
from pretrain.launch import be_a_child
from pretrain.launchers.frozen import FOLDER, put
from pretrain.run import RESULTS, RunDirectory
from pretrain.runs.stopping import stop
from pretrain.signals import EXIT_STOPPED, heeded
from pretrain.sweeps.record import LET_GO_ON, PRUNED_FILE, Sweep, Trial
from pretrain.sweeps.search import choose, is_hopeless, noted

_LOOK_S = 0.5


def run(sweep: Sweep, trial: Trial, words: Sequence[str]) -> tuple[int, int]:
    """Runs a trial to its end; it gets the time to save when this process is told to stop.

    Args:
        sweep: whose.
        trial: which one; its values are chosen now, if an optimizer has to.
        words: the command that trains by its frozen config.

    Returns:
        Its exit code, and the signal that this process was sent meanwhile, 0 for none.

    Raises:
        InputError: no values can be chosen.
        RunError: it was to be ended early, and is out of reach.
    """
    folder = sweep.folder(trial) / FOLDER
    pruned = folder / PRUNED_FILE
    if pruned.exists():  # and Slurm has put it back into the queue all the same
        return 0, 0
    if sweep.search:
        choose(sweep, trial)
    watched = sweep.search.get("prune") and not (folder / LET_GO_ON).exists()
    watch = Watch(sweep, trial) if watched else None
    code, received = _run(words, sweep.home, watch)
    return (0 if code == EXIT_STOPPED and pruned.exists() else code), received


class Watch:
    """Looks at a trial each time it has measured.

    Args:
        sweep: whose.
        trial: the one that runs.
    """

    def __init__(self, sweep: Sweep, trial: Trial) -> None:
        self.sweep, self.trial = sweep, trial
        self._measured = sweep.folder(trial) / RESULTS
        self._seen = self._time()

    def _time(self) -> int:
        return self._measured.stat().st_mtime_ns if self._measured.exists() else 0

    def look(self) -> None:
        """Asks the trial to stop if it measured something since the last look, and has no prospects."""
        now = self._time()
        if now == self._seen:
            return
        folder = self.sweep.folder(self.trial)
        results = RunDirectory(str(folder), rank=-1).results()
        if results is not None and of_its_step(results)["metrics"] and noted(self.sweep, self.trial) < results["step"]:
            return  # it is judged by its rows, and that of this step is written a moment later
        self._seen = now
        if is_hopeless(self.sweep, self.trial):
            put(folder / FOLDER / PRUNED_FILE, json.dumps({"time": time.time()}) + "\n")
            print(f"trial {self.trial.number} is worse than the median at this step, and is ended", flush=True)
            stop(folder, 0.0)


def _run(words: Sequence[str], home: str, watch: Watch | None) -> tuple[int, int]:
    received = 0
    trial: subprocess.Popen[bytes] | None = None

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = received or number
        if trial is not None:
            trial.send_signal(number)

    former = {number: signal.signal(number, note) for number in heeded()}
    try:
        # A group of its own: a terminal's Ctrl-C reaches this process alone, which passes it on once.
        trial = subprocess.Popen(words, cwd=home, process_group=0, preexec_fn=be_a_child)
        if received:
            trial.send_signal(received)
        try:
            while watch is not None and trial.poll() is None:
                watch.look()
                time.sleep(_LOOK_S)
        finally:  # whoever cannot watch it any more lets it come to its end
            code = trial.wait()
        return code, received
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)

"""The run directory: config, lock, metrics, ledger, log. Local files are the truth; trackers mirror them."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from data.errors import InputError

log = logging.getLogger("pretrain")

METRICS = "metrics.jsonl"
SPEED = "speed.jsonl"
QUARANTINE = "quarantine.jsonl"
EVENTS = "events.jsonl"
CONFIG = "config.yaml"
RESULTS = "results.json"
LEDGER = "ledger"


class RunDirectory:
    """One run's files. Made by every process; only rank 0 locks and writes what is common.

    Args:
        path: the directory; made if missing.
        rank: of this process.

    Raises:
        InputError: it cannot be made or written, or another process is at work in it.
    """

    def __init__(self, path: str, rank: int = 0) -> None:
        if not path.strip():
            raise InputError("run_dir is empty; give the directory that the run's files belong in")
        self.path = Path(path).expanduser().absolute()
        self.rank = rank
        self._files: dict[str, IO[str]] = {}
        self._lock: IO[str] | None = None
        if rank == 0:
            self._open(path)

    def _open(self, given: str) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / "lock", "a+")  # noqa: SIM115 - held as long as the process lives
        except OSError as error:
            raise InputError(f"run_dir '{given}' cannot be written: {error.strerror}") from None
        try:
            # The kernel lets go of it when the process ends, however it ends: nothing stale stays behind. Unlike
            # flock's it is not inherited: the loader's workers, which outlive a killed parent a while, hold nothing.
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.seek(0)
            owner = self._lock.read().strip() or "another process"
            raise InputError(
                f"run_dir '{given}' is in use by {owner}; give another run_dir=... or end that process first"
            ) from None
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._lock.flush()
        try:
            (self.path / ".writable").write_text("")
            (self.path / ".writable").unlink()
        except OSError as error:
            raise InputError(f"run_dir '{given}' cannot be written: {error.strerror}") from None

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are published."""
        return self.path / "checkpoints"

    def append(self, file: str, row: Mapping[str, Any]) -> None:
        """Adds a line of JSON to ``file``; it survives the end of this process."""
        if file not in self._files:
            (self.path / file).parent.mkdir(parents=True, exist_ok=True)
            self._files[file] = open(self.path / file, "a")  # noqa: SIM115 - kept open for the length of the run
        self._files[file].write(json.dumps(row) + "\n")
        self._files[file].flush()

    def secure(self) -> None:
        """Flushes all rows to disk, so that a checkpoint never is ahead of the rows that lead to it."""
        for file in self._files.values():
            os.fsync(file.fileno())

    def rewind(self, step: int) -> None:
        """Drops rows of steps after ``step`` and a last line that was cut short."""
        while self._files:
            self._files.popitem()[1].close()
        for path in [*(self.path / name for name in (METRICS, SPEED, EVENTS)), *self.quarantines(), *self.ledgers()]:
            if not path.exists():
                continue
            kept = [line for line, row in _lines(path) if row["step"] <= step]
            partial = path.with_name(f".{path.name}.part")
            with open(partial, "w") as file:
                file.write("".join(kept))
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        results = self.results()
        if results is not None and results["step"] > step:
            (self.path / RESULTS).unlink()

    def quarantines(self) -> list[Path]:
        """The files of unusable samples, one a rank."""
        return sorted(self.path.glob(f"{Path(QUARANTINE).stem}*.jsonl"))

    def ledgers(self) -> list[Path]:
        """The ledger files, one a rank."""
        return sorted((self.path / LEDGER).glob("rank-*.jsonl"))

    def rows(self, file: str) -> Iterator[dict[str, Any]]:
        """The complete rows of ``file``."""
        path = self.path / file
        if path.exists():
            yield from (row for _, row in _lines(path))

    def frozen_config(self) -> dict[str, Any] | None:
        """The config of the run's latest start, None if it is new."""
        path = self.path / CONFIG
        if not path.exists():
            return None
        try:
            found = OmegaConf.to_container(OmegaConf.load(path))
        except (OSError, ValueError, YAMLError, OmegaConfBaseException):
            found = None
        if not isinstance(found, dict) or not isinstance(found.get("tasks"), dict):
            raise InputError(f"'{path}' is not the config of a run any more; move it away to go on by the checkpoint's")
        return {str(key): value for key, value in found.items()}

    def freeze_config(self, config: Mapping[str, Any], start: Mapping[str, Any]) -> None:
        """Keeps the resolved config, and adds this start (command, versions, changes) to ``starts.jsonl``."""
        self._write(CONFIG, OmegaConf.to_yaml(OmegaConf.create(dict(config))))
        self.append("starts.jsonl", start)

    def write_results(self, step: int, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """``results.json``: step, and each metric with its value and chance."""
        self._write(RESULTS, json.dumps({"step": step, "metrics": metrics}, indent=1) + "\n")

    def results(self) -> dict[str, Any] | None:
        """What :meth:`write_results` wrote, None before."""
        path = self.path / RESULTS
        return json.loads(path.read_text()) if path.exists() else None

    def _write(self, name: str, text: str) -> None:
        partial = self.path / f".{name}.part"
        with open(partial, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.path / name)


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with open(path) as file:
        for line in file:
            if not line.endswith("\n"):
                return  # cut short by the end of the process that wrote it
            try:
                row = json.loads(line)
                int(row["step"])
                yield line, row
            except (ValueError, TypeError, KeyError):
                raise InputError(f"'{path}' holds a line that is no row with a step: {line[:60]!r}") from None


def open_log(directory: RunDirectory, console: bool = True) -> None:
    """Sends the framework's messages to the terminal and to ``log.txt``."""
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in list(log.handlers):
        log.removeHandler(handler)
    if console:
        terminal = logging.StreamHandler(sys.stderr)
        terminal.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(terminal)
    if directory.rank == 0:
        file = logging.FileHandler(directory.path / "log.txt")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(file)

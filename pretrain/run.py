"""The run directory: config, lock, metrics, ledger, log. Local files are the truth; trackers mirror them."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from data.errors import InputError
from pretrain.checkpoint.disk import replace
from pretrain.evaluation import results as evaluations
from pretrain.evaluation import shown
from pretrain.lease import Lease, leased
from pretrain.lines import lines, no_row, until
from pretrain.redaction import RedactingFormatter, redacted
from pretrain.rows import Rows

log = logging.getLogger("pretrain")

METRICS = "metrics.jsonl"
SPEED = "speed.jsonl"
QUARANTINE = "quarantine.jsonl"
EVENTS = "events.jsonl"
CONFIG = "config.yaml"
RESULTS = "results.json"
STARTS = "starts.jsonl"  # and the jumps over samples that are left out, see is_start
LEDGER = "ledger"
_NUMBERS = (METRICS, SPEED)  # at each step, and nothing else in them


def is_start(row: Mapping[str, Any]) -> bool:
    """Whether a row of ``starts.jsonl`` is of a start: a jump (:mod:`pretrain.soundness.course`) has one as well."""
    return "jumps" not in row


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
        self._files: dict[str, Rows] = {}
        self.lease: Lease | None = None
        if rank == 0:
            self._open(path)

    def _open(self, given: str) -> None:
        self.lease = leased(self.path, given)
        try:
            (self.path / ".writable").write_text("")
            (self.path / ".writable").unlink()
        except OSError as error:
            raise InputError(f"run_dir '{given}' cannot be written: {error.strerror}") from None

    def hold(self) -> None:
        """Makes sure that this run directory still is this process's own.

        Raises:
            RunError: another process works in it; see :meth:`pretrain.lease.Lease.hold`.
            OSError: the file system does not say.
        """
        if self.lease is not None:
            self.lease.hold()

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are published."""
        return self.path / "checkpoints"

    def append(self, file: str, row: Mapping[str, Any]) -> None:
        """Adds a line of JSON to ``file``, without credentials; it survives the end of this process."""
        if file not in self._files:
            self._files[file] = Rows(self.path / file)
        self._files[file].append(row if file in _NUMBERS or file.startswith(LEDGER) else redacted(row))

    def secure(self) -> None:
        """Flushes all rows to disk, so that a checkpoint never is ahead of the rows that lead to it.

        Raises:
            OSError: the disk does not take them.
            RunError: the directory was moved or removed; see :meth:`pretrain.lease.Lease.stay`.
        """
        if self.lease is not None:
            self.lease.stay()  # a checkpoint would make it anew, without the rows: their files went with it
        for file in list(self._files.values()):  # a checkpoint's thread calls this while the run adds files
            file.secure()

    def release(self) -> None:
        """Lets go of the files that rows were added to, so that rank 0 may put others in their place."""
        while self._files:
            self._files.popitem()[1].close()

    def rewind(self, step: int) -> None:
        """Drops rows of steps after ``step``, a last line that was cut short, and what is damaged behind ``step``.

        Raises:
            InputError: a line is damaged that may be of an earlier step.
        """
        self.release()
        for path in [*(self.path / name for name in (METRICS, SPEED, EVENTS)), *self.quarantines(), *self.ledgers()]:
            if not path.exists():
                continue
            kept = until(path, step)
            if sum(map(len, kept)) != path.stat().st_size:  # what stays was on disk before the checkpoint was
                replace(path, b"".join(kept))
        results = self.results()
        if results is not None and results["step"] > step:
            known = evaluations.until(results, step)
            if known is None:
                (self.path / RESULTS).unlink()
            else:
                self._write_results(known)
        evaluations.drop_after(self.path, step)
        shown.drop_after(self.path, step)

    def quarantines(self) -> list[Path]:
        """The files of unusable samples, one a rank."""
        return sorted(self.path.glob(f"{Path(QUARANTINE).stem}*.jsonl"))

    def ledgers(self) -> list[Path]:
        """The ledger files, one a rank."""
        return sorted((self.path / LEDGER).glob("rank-*.jsonl"))

    def rows(self, file: str, damaged: bool = False) -> Iterator[dict[str, Any]]:
        """The complete rows of ``file``.

        Args:
            file: its name.
            damaged: pass over lines that are none.

        Raises:
            InputError: a line is none.
        """
        path = self.path / file
        if not path.exists():
            return
        for number, line, row in lines(path):
            if row is not None:
                yield row
            elif not damaged:
                raise InputError(no_row(path, number, line))

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
        """Keeps the resolved config, and adds this start (command, versions, changes) to ``starts.jsonl``.

        Both without credentials, as :mod:`pretrain.redaction` knows them.
        """
        self._write(CONFIG, OmegaConf.to_yaml(OmegaConf.create(redacted(config))))
        self.append(STARTS, start)

    def write_results(
        self,
        step: int,
        metrics: Mapping[str, Mapping[str, float]],
        tables: Mapping[str, Any] | None = None,
        whole: bool = True,
    ) -> None:
        """``results.json``: step, each metric with its value and chance, and what evaluators say beyond numbers.

        Args:
            step: that was measured.
            metrics: name -> value and chance.
            tables: evaluator -> what it says beyond numbers.
            whole: these are all that the run has. Otherwise others stay as they were measured last, with their step.
        """
        before = None if whole else self.results()
        parts = [{"metrics": metrics, "tables": tables or {}}]
        if before is not None:
            # What was measured later stands first: so the file is the same whichever values it was gone on with from.
            older = {n: {"step": before["step"], **one} for n, one in before["metrics"].items() if n not in metrics}
            said = {name: one for name, one in before.get("tables", {}).items() if name not in parts[0]["tables"]}
            parts.append({"metrics": older, "tables": said})
        joined = evaluations.joined(*parts)
        found = {"step": step, "metrics": joined["metrics"]} | (
            {"tables": joined["tables"]} if joined["tables"] else {}
        )
        self._write_results(found)

    def results(self) -> dict[str, Any] | None:
        """What :meth:`write_results` wrote, None before, or where it was damaged since."""
        path = self.path / RESULTS
        try:
            found = json.loads(path.read_text()) if path.exists() else None
        except ValueError:
            found = {}
        if found is not None and not (isinstance(found, dict) and {"step", "metrics"} <= found.keys()):
            log.warning("'%s' is damaged, and taken for absent; the next measurement writes it anew", path)
            return None
        return found

    def _write_results(self, found: Mapping[str, Any]) -> None:
        self._write(RESULTS, json.dumps(found, indent=1) + "\n")

    def _write(self, name: str, text: str) -> None:
        replace(self.path / name, text.encode())


class _Terminal(logging.StreamHandler[TextIO]):
    """To what ``sys.stderr`` is at the time: a progress bar puts itself in its place, and lets lines pass above it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Where to."""
        return sys.stderr


def open_log(directory: RunDirectory, console: bool = True) -> None:
    """Sends the framework's messages to the terminal and to ``log.txt``."""
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in list(log.handlers):
        log.removeHandler(handler)
    if console:
        terminal = _Terminal()
        terminal.setFormatter(RedactingFormatter("%(message)s"))
        log.addHandler(terminal)
    if directory.rank == 0:
        file = logging.FileHandler(directory.path / "log.txt", encoding="utf-8", errors="backslashreplace")
        file.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(file)

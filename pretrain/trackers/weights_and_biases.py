"""Weights & Biases, online or into files that ``wandb sync`` takes there later."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from data.errors import InputError, choices
from pretrain.checkpoint.disk import replace
from pretrain.redaction import redact
from pretrain.trackers.delivered import Delivered
from pretrain.trackers.tracker import Tracker, TrackerError

MODES = ("online", "offline", "auto")
_SERVER = "https://api.wandb.ai"


class WeightsAndBiases(Tracker):
    """One wandb run per run directory, for ever: its id is kept in ``wandb_id``.

    It gets metrics alone: neither the command line, nor code and its repository, nor what is printed.

    Args:
        directory: of the run; wandb's own files are in ``wandb/`` of it.
        project: of wandb.
        mode: ``online``; ``offline`` for a host without a network; ``auto``: what ``WANDB_MODE`` says; without
            it online where this host is logged in, and not at all elsewhere.

    Raises:
        InputError: unknown ``mode``.
    """

    def __init__(self, directory: Path, project: str, mode: str) -> None:
        if mode not in MODES:
            raise InputError(f"mode '{mode}' is unknown; {choices(mode, MODES)}")
        if mode == "auto":
            mode = mode_of_this_host()
            self.wanted = mode != "disabled"
        self.directory, self.project, self.mode = directory, redact(project), mode
        self.key = f"wandb-{mode}"
        self.answers = mode == "online"
        self._run: Any = None

    def begin(self, delivered: Delivered, patience_s: float) -> int:
        """See :class:`Tracker`."""
        import wandb

        # What it says before it knows its settings names the server, with credentials.
        os.environ["WANDB_SILENT"] = "true"
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        run_id = self._id() if delivered.history == 1 else f"{self._id()}-{delivered.history}"
        for left in self._files():
            if left.name not in delivered.segments:
                shutil.rmtree(left)
        silent = wandb.Settings(
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
            save_code=False,
            console="off",
            silent=True,
            symlink=False,
            init_timeout=patience_s,
            finish_timeout=patience_s,
            finish_timeout_raises=True,
        )
        try:
            self._run = wandb.init(
                project=self.project,
                name=self.directory.name,
                dir=self.directory,
                id=run_id,
                resume="allow",
                mode="online" if self.answers else "offline",
                settings=silent,
            )
            return int(self._run.starting_step) - 1 if self.answers else delivered.step
        except Exception as error:  # of its service, too many kinds to name
            self.abandon()
            raise TrackerError(f"wandb cannot be reached: {_first_line(error)}") from error

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """See :class:`Tracker`. wandb counts steps as the run does, so that none can be there twice."""
        try:
            self._run.log(dict(values), step=step, commit=True)
        except Exception as error:  # of its service, too many kinds to name
            raise TrackerError(f"wandb's service is gone: {_first_line(error)}") from error

    def finish(self) -> str:
        """See :class:`Tracker`."""
        own = Path(self._run.settings.sync_dir)
        try:
            self._run.finish()
        except Exception as error:  # of its service, too many kinds to name
            raise TrackerError(f"wandb has not taken everything: {_first_line(error)}") from error
        finally:
            self.abandon()
        return own.name

    def abandon(self) -> None:
        """See :class:`Tracker`. Beside an online run wandb writes what metrics.jsonl has, and a log that names URLs."""
        for left in self._files() if self.answers else ():
            shutil.rmtree(left, ignore_errors=True)  # its service may be writing there; the next start removes the rest

    def _files(self) -> list[Path]:
        prefix = "run" if self.answers else "offline-run"
        return sorted((self.directory / "wandb").glob(f"{prefix}-*-{self._id()}*"))

    def _id(self) -> str:
        kept = self.directory / "wandb_id"
        found = kept.read_text().strip() if kept.exists() else ""
        if not found:
            found = secrets.token_hex(4)
            replace(kept, found.encode())
        return found


def mode_of_this_host() -> str:
    """``WANDB_MODE``, if it says something; else ``online`` where wandb would find a key, ``disabled`` elsewhere."""
    given = os.environ.get("WANDB_MODE", "").lower()
    if given in ("offline", "dryrun"):
        return "offline"
    if given == "disabled":
        return given
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or _SERVER).hostname or ""
    try:
        known = netrc(os.environ.get("NETRC")).authenticators(host)
    except (OSError, NetrcParseError):
        known = None  # nobody has logged in here
    return "online" if known else "disabled"


def _first_line(error: BaseException) -> str:
    return redact((str(error).splitlines() or [""])[0] or type(error).__name__)

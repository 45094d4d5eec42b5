"""Trackers that mirror metrics.jsonl. What they need to go on with the same tracker run is in the run directory."""

from __future__ import annotations

import importlib.util
import secrets
from pathlib import Path

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from data.errors import InputError
from pretrain.redaction import redact

MODES = ("online", "offline")


def wandb_logger(directory: Path, project: str, mode: str) -> Logger:
    """Weights & Biases; the tracker's run id is kept in ``wandb_id``.

    It gets metrics alone: neither the command line, nor code and its repository, nor what is printed.

    Raises:
        InputError: unknown ``mode``.
    """
    import wandb

    if mode not in MODES:
        raise InputError(f"mode '{mode}' is unknown; choices: {', '.join(MODES)}")
    directory.mkdir(parents=True, exist_ok=True)
    kept = directory / "wandb_id"
    if not kept.exists():
        kept.write_text(secrets.token_hex(4))
    run_id = kept.read_text().strip()
    silent = wandb.Settings(
        x_disable_meta=True,
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        save_code=False,
        console="off",
    )
    return WandbLogger(
        name=directory.name,
        save_dir=directory,
        project=redact(project),
        id=run_id,
        resume="allow",
        offline=mode == "offline",
        settings=silent,
    )


def tensorboard_logger(directory: Path) -> Logger:
    """TensorBoard files in ``tensorboard/``.

    Raises:
        InputError: the package is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("the package tensorboard is not installed; pip install 'pretrain[tensorboard]'")
    return TensorBoardLogger(directory, name="tensorboard", version="")

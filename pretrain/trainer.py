"""Lightning's Trainer, with everything switched off that this framework does itself."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
import torch.utils.deterministic
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from data.errors import InputError
from pretrain.devices import accelerator_of
from pretrain.ranks import Process
from pretrain.strategies import environment_of, strategy_of


def build_trainer(config: Mapping[str, Any], process: Process, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning's Trainer with everything switched off that this framework does itself."""
    options = config["trainer"]
    for quiet in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(quiet).setLevel(logging.ERROR)
    # Lightning advises on its own loader and on what it does not save; neither is used here.
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    try:
        trainer = _trainer(options, process, callbacks)
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise InputError(f"trainer: {str(error).splitlines()[0]}") from None
    # A deterministic run need not fill what it is going to write anyway: that only shows who reads it before.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # Its handlers would save wherever a signal happens to arrive, and run collectives there; see pretrain.signals.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer


def _trainer(options: Mapping[str, Any], process: Process, callbacks: list[pl.Callback]) -> pl.Trainer:
    return pl.Trainer(
        accelerator=accelerator_of(options["accelerator"]),
        devices=options["devices"],
        num_nodes=options["num_nodes"],
        strategy=strategy_of(options, process),
        precision=options["precision"],
        deterministic=bool(options["deterministic"]),
        plugins=[environment_of(process.launcher)] if process.world_size > 1 else None,
        logger=False,
        callbacks=callbacks,
        max_epochs=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )

"""``pretrain``: builds a run's parts from its config, finds where it stands, and trains on from there."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import SLURMEnvironment

from data.errors import InputError
from pretrain.build import make
from pretrain.callbacks.checkpointing import Checkpointing
from pretrain.callbacks.evaluation import Evaluation, table
from pretrain.callbacks.metrics import Metrics
from pretrain.callbacks.progress import ProgressReport
from pretrain.callbacks.quarantine import Quarantine
from pretrain.callbacks.stop import StopOnSignal
from pretrain.evaluators import Evaluator, build_evaluators
from pretrain.feed import build_loader, open_streams
from pretrain.model import Model, build_model, tokenizers
from pretrain.module import Pretraining
from pretrain.provenance import provenance
from pretrain.ranks import global_rank
from pretrain.run import RunDirectory, open_log
from pretrain.start import begin
from pretrain.strategies import strategy_of

log = logging.getLogger("pretrain")


def train(config: dict[str, Any], overrides: list[str]) -> None:
    """Starts the run that ``config`` describes, or continues it exactly where its newest checkpoint stands.

    Raises:
        InputError: something in the config, the data or the run directory does not fit.
        Stopped: a signal ended it; a checkpoint is published.
    """
    if config["max_steps"] < 1:
        raise InputError(f"max_steps={config['max_steps']} leaves nothing to do")
    if config["init_from"] is not None and config["resume"] != "auto":
        raise InputError(
            "resume and init_from exclude one another: resume goes on with a run, init_from begins a new one"
        )
    directory = RunDirectory(config["run_dir"], global_rank())
    open_log(directory, console=directory.rank == 0)
    options = config["trainer"]
    world_size = options["devices"] * options["num_nodes"]
    torch.set_num_threads(options["threads"] or max(1, len(os.sched_getaffinity(0)) // options["devices"]))
    roots = tuple(config["trusted_roots"])
    if config["data"].get("builder"):
        make(config["data"]["builder"], "data.builder", roots).ensure()

    model = build_model(config)
    streams = open_streams(config, model)
    evaluators = build_evaluators(config, model)
    optimizer = make(config["optimizer"], "optimizer", roots, parameters=list(model.named_parameters()))
    schedule = make(config["schedule"], "schedule", roots, max_steps=config["max_steps"])
    facts = {
        "data": {name: digest for stream in streams.values() for name, digest in stream.fingerprint().items()},
        "tokenizers": tokenizers(model),
    }
    step, positions = begin(config, directory, facts, model, optimizer)
    if directory.rank == 0:
        directory.rewind(step)
        directory.freeze_config(config, provenance(overrides) | {"step": step})
    if step >= config["max_steps"]:
        report(directory, f"the run is at step {step} of max_steps={config['max_steps']}: nothing left to do")
        return

    module = Pretraining(model, optimizer, schedule, config["seed"], config["gradient_clip_norm"])
    module.steps_done = step
    trainer = build_trainer(
        config, world_size, directory, build_callbacks(config, directory, evaluators, (step, positions), facts)
    )
    cuda = trainer.strategy.root_device.type == "cuda"
    loader = build_loader(config, model, streams, (step, positions), directory.rank, world_size, pin_memory=cuda)
    sizes = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in parameters(model).items())
    log.info("run %s: steps %d to %d; parameters: %s", directory.path, step + 1, config["max_steps"], sizes)
    trainer.fit(module, loader)
    if trainer.is_global_zero:
        report(directory, f"done: {config['max_steps']} steps")


def build_callbacks(
    config: Mapping[str, Any],
    directory: RunDirectory,
    evaluators: list[Evaluator],
    start: tuple[int, Mapping[str, int]],
    facts: Mapping[str, Any],
) -> list[pl.Callback]:
    """What happens at the edge of a step, in this order: measure, write down, show, save, stop."""
    max_steps = config["max_steps"]
    metrics = Metrics(directory, config["log_every_n_steps"], config["ledger"])
    batch_sizes = {name: spec["batch_size"] for name, spec in config["tasks"].items()}
    saving = Checkpointing(
        directory, **config["checkpoint"], max_steps=max_steps, batch_sizes=batch_sizes, start=start, facts=facts
    )
    return [
        Evaluation(directory, evaluators, config["evaluate"]["every_n_steps"], max_steps),
        metrics,
        Quarantine(directory, **config["quarantine"]),
        ProgressReport(metrics, start[0], max_steps),
        saving,
        StopOnSignal(saving),
    ]


def build_trainer(
    config: Mapping[str, Any], world_size: int, directory: RunDirectory, callbacks: list[pl.Callback]
) -> pl.Trainer:
    """Lightning's Trainer with everything switched off that this framework does itself."""
    options = config["trainer"]
    loggers = [make(node, f"logger.{name}", directory=directory.path) for name, node in config["logger"].items()]
    for quiet in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(quiet).setLevel(logging.ERROR)
    # Lightning advises on its own loader and on what it does not save; neither is used here.
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    return pl.Trainer(
        accelerator=options["accelerator"],
        devices=options["devices"],
        num_nodes=options["num_nodes"],
        strategy=strategy_of(options["strategy"], world_size, options["timeout_s"]),
        precision=options["precision"],
        deterministic=options["deterministic"],
        plugins=[SLURMEnvironment(auto_requeue=False)] if world_size > 1 and SLURMEnvironment.detect() else None,
        logger=loggers,
        callbacks=callbacks,
        max_epochs=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def parameters(model: Model) -> dict[str, int]:
    """Encoder or objective -> number of parameters."""
    parts = [*model.encoders.items(), *model.objectives.items()]
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts}


def report(directory: RunDirectory, headline: str) -> None:
    """The last lines a person sees: what was measured, and where everything is."""
    results = directory.results()
    if results is not None:
        log.info("%s", table(results["metrics"]))
    log.info("%s; everything is in %s", headline, directory.path)

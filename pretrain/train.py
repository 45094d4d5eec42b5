"""``pretrain``: builds a run's parts from its config, finds where it stands, and trains on from there."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from data.errors import InputError, choices
from data.loading.loader import share_of
from data.stream import Stream
from pretrain.build import make
from pretrain.callbacks.beginning import Beginning
from pretrain.callbacks.checkpointing import Checkpointing
from pretrain.callbacks.evaluation import Evaluation, table
from pretrain.callbacks.metrics import Metrics
from pretrain.callbacks.progress import ProgressReport
from pretrain.callbacks.quarantine import Quarantine
from pretrain.callbacks.report import Report
from pretrain.callbacks.stop import StopOnSignal
from pretrain.evaluators import Evaluator, build_evaluators
from pretrain.feed import Feed, check_waits, open_streams
from pretrain.host import cores
from pretrain.model import Model, build_model
from pretrain.module import Pretraining
from pretrain.optim.ema import Ema
from pretrain.ranks import Process, this_process
from pretrain.run import RunDirectory, open_log
from pretrain.start import facts_of
from pretrain.storage import open_store
from pretrain.strategies import environment_of, strategy_of

log = logging.getLogger("pretrain")


def train(config: dict[str, Any], overrides: list[str]) -> None:
    """Starts the run that ``config`` describes, or continues it exactly where its newest checkpoint stands.

    Raises:
        InputError: something in the config, the data or the run directory does not fit.
        RunError: it cannot go on; what was published stays.
        Stopped: a signal ended it; a checkpoint is published.
    """
    if config["init_from"] is not None and config["resume"] != "auto":
        raise InputError(
            "resume and init_from exclude one another: resume goes on with a run, init_from begins a new one"
        )
    options = config["trainer"]
    process = this_process(options["devices"], options["num_nodes"])
    for name, spec in config["tasks"].items():
        share_of(name, spec["batch_size"], process.world_size)
    check_waits(config, process.world_size)
    directory = RunDirectory(config["run_dir"], process.rank)
    open_log(directory, console=process.rank == 0)
    torch.set_num_threads(options["threads"] or max(1, cores() // options["devices"]))
    roots = tuple(config["trusted_roots"])
    if config["data"].get("builder"):
        make(config["data"]["builder"], "data.builder", roots).ensure()

    model = build_model(config)
    store = open_store(config)
    streams = open_streams(config, model, store)
    evaluators = build_evaluators(config, model, store)
    device = accelerator_of(options["accelerator"])
    named = list(model.named_parameters())
    optimizer = make(config["optimizer"], "optimizer", roots, parameters=named, device=device)
    samples = sum(spec["batch_size"] for spec in config["tasks"].values())
    timing = {"max_steps": config["max_steps"], "samples_a_step": samples}
    schedule = make(config["schedule"], "schedule", roots, **timing)
    facts = facts_of(config, model, streams)
    ema = ema_of(config, model)
    module = Pretraining(model, optimizer, schedule, config["seed"], config["gradient_clip_norm"], ema)
    beginning = Beginning(config, overrides, directory, facts, streams)
    callbacks = [beginning, *edge_of_a_step(config, directory, evaluators, facts, streams)]
    trainer = build_trainer(config, process, directory, callbacks)
    sizes = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in parameters(model).items())
    log.info("run %s to step %d; parameters: %s", directory.path, config["max_steps"], sizes)
    feed = Feed(config, streams, module)
    try:
        trainer.fit(module, datamodule=feed)
    finally:
        feed.close()
        store.close()
    if trainer.is_global_zero:
        report(directory, module.start.step, config["max_steps"])


def ema_of(config: Mapping[str, Any], model: Model) -> Ema | None:
    """The average of the weights, where the config asks for one.

    Raises:
        InputError: it is to be measured, but not made.
    """
    if config["ema"]["decay"] is None:
        if config["evaluate"]["ema"]:
            raise InputError("evaluate.ema=true needs averaged weights; give ema.decay=0.999 or so")
        return None
    return Ema(model, **config["ema"])


def edge_of_a_step(
    config: Mapping[str, Any],
    directory: RunDirectory,
    evaluators: list[Evaluator],
    facts: Mapping[str, Any],
    streams: Mapping[str, Stream],
) -> list[pl.Callback]:
    """What happens after each step, in this order: measure, write down, watch, show, save, draw, stop."""
    max_steps = config["max_steps"]
    sizes = {name: spec["batch_size"] for name, spec in config["tasks"].items()}
    metrics = Metrics(directory, config["log_every_n_steps"], config["ledger"], streams, sizes)
    roots, given = tuple(config["trusted_roots"]), {"directory": directory, "metrics": metrics}
    alarms = [make(node, f"alarms.{name}", roots, **given) for name, node in config["alarms"].items()]
    saving = Checkpointing(directory, **config["checkpoint"], max_steps=max_steps, batch_sizes=sizes, facts=facts)
    return [
        Evaluation(directory, evaluators, config["evaluate"]["every_n_steps"], max_steps, config["evaluate"]["ema"]),
        metrics,
        *alarms,
        Quarantine(directory, **config["quarantine"], batch_sizes=sizes),
        ProgressReport(metrics, max_steps),
        saving,
        Report(directory, **config["report"]),
        StopOnSignal(saving),
    ]


def build_trainer(
    config: Mapping[str, Any], process: Process, directory: RunDirectory, callbacks: list[pl.Callback]
) -> pl.Trainer:
    """Lightning's Trainer with everything switched off that this framework does itself."""
    options = config["trainer"]
    loggers = [make(node, f"logger.{name}", directory=directory.path) for name, node in config["logger"].items()]
    for quiet in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(quiet).setLevel(logging.ERROR)
    # Lightning advises on its own loader and on what it does not save; neither is used here.
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    try:
        return _trainer(options, process, loggers, callbacks)
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise InputError(f"trainer: {str(error).splitlines()[0]}") from None


def _trainer(
    options: Mapping[str, Any], process: Process, loggers: list[Any], callbacks: list[pl.Callback]
) -> pl.Trainer:
    return pl.Trainer(
        accelerator=accelerator_of(options["accelerator"]),
        devices=options["devices"],
        num_nodes=options["num_nodes"],
        strategy=strategy_of(process.world_size, options["timeout_s"]),
        precision=options["precision"],
        deterministic=options["deterministic"],
        plugins=[environment_of(process.launcher)] if process.world_size > 1 else None,
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


def accelerator_of(name: str) -> str:
    """``auto`` means CUDA where there is one, else CPU: Apple's GPU lacks the float64 that sums are kept in.

    Raises:
        InputError: unknown, or not on this machine.
    """
    known = {"auto", "cpu", "cuda", "gpu"}
    if name not in known:
        raise InputError(f"trainer.accelerator '{name}' is not there; {choices(name, known)}")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name in ("cuda", "gpu") and not torch.cuda.is_available():
        raise InputError(f"trainer.accelerator={name}, but this machine has no CUDA device; choices here: auto, cpu")
    return name


def report(directory: RunDirectory, began: int, max_steps: int) -> None:
    """The last lines a person sees: what was measured, and where everything is."""
    results = directory.results()
    if results is not None:
        log.info("%s", table(results["metrics"]))
    done = f"done: {max_steps} steps"
    if began >= max_steps:
        done = f"the run is at step {began} of max_steps={max_steps}: nothing left to do"
    log.info("%s; everything is in %s", done, directory.path)

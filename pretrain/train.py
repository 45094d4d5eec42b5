"""``pretrain``: builds a run's parts from its config, finds where it stands, and trains on from there."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import SLURMEnvironment

from data.errors import InputError
from data.loader import StepLoader, TaskData
from data.stream import Stream
from pretrain import checkpoint, resume
from pretrain.build import make
from pretrain.callbacks.checkpointing import Checkpointing
from pretrain.callbacks.evaluation import Evaluation, table
from pretrain.callbacks.metrics import Metrics
from pretrain.callbacks.progress import ProgressReport
from pretrain.callbacks.quarantine import Quarantine
from pretrain.callbacks.stop import StopOnSignal
from pretrain.evaluators import Heldout, Retrieval, check_heldout
from pretrain.model import Model, build_model, tokenizers
from pretrain.module import Pretraining
from pretrain.provenance import provenance
from pretrain.ranks import global_rank
from pretrain.run import RunDirectory, open_log
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
        raise InputError("resume and init_from exclude one another: resume goes on with a run, init_from begins a new one with weights")
    directory = RunDirectory(config["run_dir"], global_rank())
    open_log(directory, console=directory.rank == 0)
    world_size = config["trainer"]["devices"] * config["trainer"]["num_nodes"]
    torch.set_num_threads(config["trainer"]["threads"] or max(1, len(os.sched_getaffinity(0)) // config["trainer"]["devices"]))
    if config["data"].get("builder"):
        make(config["data"]["builder"], "data.builder", tuple(config["trusted_roots"])).ensure()
    checkpoint.sweep(directory.checkpoints) if directory.rank == 0 else None

    model = build_model(config)
    streams = open_streams(config, model)
    facts = {
        "data": {name: digest for stream in streams.values() for name, digest in stream.fingerprint().items()},
        "tokenizers": tokenizers(model),
    }
    evaluators = build_evaluators(config, model)
    optimizer = make(config["optimizer"], "optimizer", parameters=list(model.named_parameters()))
    schedule = make(config["schedule"], "schedule", max_steps=config["max_steps"])
    found = find_start(config, directory, facts)
    step, positions = 0, dict.fromkeys(streams, 0)
    if found is not None:
        restore(found, model, optimizer)
        step = found.step
        positions |= {task: p for task, p in found.state["positions"].items() if task in positions}
    elif config["init_from"] is not None:
        initialise_from(config["init_from"], model, facts["tokenizers"], config["allow_changes"])
    if directory.rank == 0:
        directory.rewind(step)
        directory.freeze_config(config, provenance(overrides) | {"step": step})
    if step >= config["max_steps"]:
        report(directory, f"the run is at step {step} of max_steps={config['max_steps']}: nothing left to do")
        return

    module = Pretraining(model, optimizer, schedule, config["seed"], config["gradient_clip_norm"])
    module.steps_done = step
    metrics = Metrics(directory, config["log_every_n_steps"], config["ledger"])
    batch_sizes = {name: spec["batch_size"] for name, spec in config["tasks"].items()}
    saving = Checkpointing(
        directory,
        config["checkpoint"]["every_n_steps"],
        config["max_steps"],
        config["checkpoint"]["keep_last"],
        batch_sizes,
        (step, positions),
        facts,
    )
    callbacks: list[pl.Callback] = [
        Evaluation(directory, evaluators, config["evaluate"]["every_n_steps"], config["max_steps"]),
        metrics,
        Quarantine(directory, **config["quarantine"]),
        ProgressReport(metrics, step, config["max_steps"]),
        saving,
        StopOnSignal(saving),
    ]
    trainer = build_trainer(config, world_size, callbacks, directory)
    data = {
        name: TaskData(
            streams[name], model.tasks[name].prepare, spec["batch_size"], spec["micro_batch_size"], positions[name]
        )
        for name, spec in config["tasks"].items()
    }
    loader = StepLoader(
        data,
        step,
        config["max_steps"],
        global_rank() if world_size > 1 else 0,
        world_size,
        config["loader"]["workers"],
        config["loader"]["prefetch"],
        pin_memory=trainer.strategy.root_device.type == "cuda",
    )
    sizes = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in parameters(model).items())
    log.info("run %s: steps %d to %d; parameters: %s", directory.path, step + 1, config["max_steps"], sizes)
    trainer.fit(module, loader)
    if trainer.is_global_zero:
        report(directory, f"done: {config['max_steps']} steps")


def open_streams(config: Mapping[str, Any], model: Model) -> dict[str, Stream]:
    """Task -> its stream, with every sample known to have the members its task needs.

    Raises:
        InputError: a source is not given, matches nothing, is empty, or lacks members.
    """
    streams = {}
    for name, spec in config["tasks"].items():
        if spec["source"] is None:
            raise InputError(f"tasks.{name}.source is not given; name shards, for example tasks.{name}.source='shards/own-*.tar'")
        streams[name] = Stream(name, spec["source"], config["seed"])
        for source in streams[name].sources:
            source.require(model.tasks[name].prepare.needs)
    return streams


def build_evaluators(config: Mapping[str, Any], model: Model) -> list[Callable[..., Any]]:
    """Held-out metrics of each task that has held-out data, then those under ``evaluators`` that this run can have."""
    samples, batch_size = config["evaluate"]["samples"], config["evaluate"]["batch_size"]
    found: list[Callable[..., Any]] = []
    for name, spec in config["tasks"].items():
        if spec["heldout"] is not None:
            check_heldout(name, spec["heldout"], model.tasks[name].prepare.needs)
            found.append(Heldout(model.tasks[name], spec["heldout"], samples, batch_size))
    for name, node in config["evaluators"].items():
        evaluator: Retrieval = make(node, f"evaluators.{name}", tuple(config["trusted_roots"]))
        evaluator.name = name
        reason = "it has no source" if evaluator.source is None else evaluator.missing(model)
        if reason:
            log.info("evaluator '%s' is left out: %s", name, reason)
            continue
        evaluator.open(name, samples, batch_size)
        found.append(evaluator)
    return found


def find_start(config: Mapping[str, Any], directory: RunDirectory, facts: Mapping[str, Any]) -> checkpoint.Content | None:
    """The checkpoint to go on from: the run's own newest sound one, else the one ``resume`` names, else None.

    Raises:
        InputError: all of the run's checkpoints are damaged, or config, data or tokenizer changed too much.
    """
    allowed = config["allow_changes"]
    place, found = directory.path, None
    damaged = 0
    for path, content in checkpoint.newest(directory.checkpoints):
        if isinstance(content, checkpoint.Damaged):
            damaged += 1
            log.warning("checkpoint %s is damaged (%s); set aside", path.name, content)
            if directory.rank == 0:
                os.rename(path, path.with_name(f"damaged-{path.name}"))
        else:
            found = content
    if found is None and damaged:
        raise InputError(f"all checkpoints of '{directory.path}' are damaged (kept as damaged-*); nothing to go on from; give another run_dir to begin anew")
    frozen = directory.frozen_config()
    if found is None and config["resume"] != "auto":
        place = config["resume"]
        found = checkpoint.find(place)
    elif found is not None and frozen is not None:
        for line in resume.check_config(frozen, config, allowed):
            log.info(line)
    if found is not None:
        resume.check_tokenizers(str(place), found.state["tokenizers"], facts["tokenizers"], allowed)
        resume.check_data(found.state["data"], facts["data"], allowed)
        log.info("going on from step %d of %s", found.step, place)
    return found


def restore(found: checkpoint.Content, model: Model, optimizer: torch.optim.Optimizer) -> None:
    """Puts weights and optimizer state back.

    Raises:
        InputError: the checkpoint is of a model with other parameters or sizes.
    """
    own = model.state_dict()
    for name in sorted(own.keys() | found.model.keys()):
        there, here = found.model.get(name), own.get(name)
        if there is None or here is None:
            raise InputError(f"the checkpoint {'lacks' if there is None else 'has'} '{name}', which this model {'has' if here is not None else 'lacks'}")
        if there.shape != here.shape:
            raise InputError(f"'{name}' is {tuple(there.shape)} in the checkpoint and {tuple(here.shape)} in this model: another model size")
    model.load_state_dict(found.model)
    checkpoint.restore_optimizer(optimizer, model, found.optimizer)


def initialise_from(place: str, model: Model, digests: Mapping[str, str], allowed: list[str]) -> None:
    """Takes the weights whose names and shapes fit, and says which did not.

    Raises:
        InputError: nothing fits, a tensor has another shape, or an encoder's tokenizer is another one.
    """
    found = checkpoint.find(place)
    resume.check_tokenizers(place, found.state["tokenizers"], digests, allowed)
    own = model.state_dict()
    common = sorted(own.keys() & found.model.keys())
    for name in common:
        if own[name].shape != found.model[name].shape:
            raise InputError(
                f"init_from '{place}': '{name}' is {tuple(found.model[name].shape)} there and {tuple(own[name].shape)} in this model"
            )
    if not common:
        raise InputError(f"init_from '{place}' has no parameter in common with this model")
    model.load_state_dict({name: found.model[name] for name in common}, strict=False)
    new = sorted(own.keys() - found.model.keys())
    log.info("weights from step %d of %s: %d tensors taken, %d begin anew%s", found.step, place, len(common), len(new), f" ({new[0]}, ...)" if new else "")


def build_trainer(
    config: Mapping[str, Any], world_size: int, callbacks: list[pl.Callback], directory: RunDirectory
) -> pl.Trainer:
    """Lightning's Trainer with everything switched off that this framework does itself."""
    options = config["trainer"]
    loggers = [make(node, f"logger.{name}", directory=directory.path) for name, node in config["logger"].items()]
    for quiet in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(quiet).setLevel(logging.ERROR)
    # Lightning advises on its own loader and on what it does not save; neither is used here.
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    if world_size == 1 and "SLURM_NTASKS" in os.environ:
        loggers = loggers or []
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

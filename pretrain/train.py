"""``pretrain``: builds a run's parts from its config, finds where it stands, and trains on from there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch

from data.stream import Stream
from pretrain import stopmark
from pretrain.build import make
from pretrain.callbacks.beginning import Beginning
from pretrain.callbacks.checkpointing import Checkpointing
from pretrain.callbacks.edge import StepEdge
from pretrain.callbacks.evaluation import Evaluation
from pretrain.callbacks.metrics import Metrics
from pretrain.callbacks.progress import ProgressReport
from pretrain.callbacks.quarantine import Quarantine
from pretrain.callbacks.reaction import Reaction
from pretrain.callbacks.report import Report
from pretrain.callbacks.sickness import Sickness
from pretrain.callbacks.stop import StopOnSignal
from pretrain.callbacks.tracking import Tracking
from pretrain.checkpoint.retention import retention_of
from pretrain.closing import report
from pretrain.company import Company, company_of
from pretrain.devices import accelerator_of
from pretrain.ending import Ending
from pretrain.evaluation.build import build_evaluators
from pretrain.evaluation.scores import Evaluator
from pretrain.exact import ExactGradients
from pretrain.faults import Faults
from pretrain.feed import Feed
from pretrain.gradients import Gradients
from pretrain.host import cores
from pretrain.lifeline import RankEnded
from pretrain.model import Model, build_model
from pretrain.module import Pretraining
from pretrain.optim.ema import Ema
from pretrain.optim.state import state_bytes
from pretrain.preflight import look
from pretrain.ranks import Process, check_spread, this_process
from pretrain.run import RunDirectory, open_log
from pretrain.settings import check_settings, schedule_of
from pretrain.signals import SIGNALS, Interrupted, Stopped, is_stop
from pretrain.soundness.guard import guard_of
from pretrain.soundness.incidents import Incidents
from pretrain.soundness.policies import rewinds_by
from pretrain.start import facts_of
from pretrain.storage import open_store
from pretrain.streams import open_streams
from pretrain.trackers.mirror import names_of
from pretrain.trainer import build_trainer
from pretrain.trunks import set_trunks

log = logging.getLogger("pretrain")


def train(config: dict[str, Any], overrides: list[str], file: str | None = None) -> None:
    """Starts the run that ``config`` describes, or continues it exactly where its newest checkpoint stands.

    Args:
        config: of the run, resolved.
        overrides: of the command line.
        file: the whole config that they changed, if there was one.

    Raises:
        InputError: something in the config, the data or the run directory does not fit.
        RunError: it cannot go on; what was published stays.
        Stopped: a signal ended it; a checkpoint is published.
    """
    options = config["trainer"]
    process = this_process(options["devices"], options["num_nodes"])
    check_spread(config, process.world_size)
    check_settings(config, process.world_size).tell()
    directory = RunDirectory(config["run_dir"], process.rank)
    if process.rank == 0:
        stopmark.take_back(directory.path)
    with Ending(directory.path if process.rank == 0 else None) as ending:
        _train(config, overrides, file, process, directory, ending)


def _train(
    config: dict[str, Any],
    overrides: list[str],
    file: str | None,
    process: Process,
    directory: RunDirectory,
    ending: Ending,
) -> None:
    options = config["trainer"]
    open_log(directory, console=process.rank == 0)
    SIGNALS.check()
    exact = options["deterministic"] == "exact"
    # Another number of threads gives other roundings.
    torch.set_num_threads(options["threads"] or (1 if exact else max(1, cores() // options["devices"])))
    roots = tuple(config["trusted_roots"])
    if config["data"].get("builder"):
        make(config["data"]["builder"], "data.builder", roots).ensure()

    model = build_model(config)
    set_trunks(model.encoders, options)
    store = open_store(config)
    faults = Faults()
    streams = open_streams(config, model, store, faults)
    evaluators = build_evaluators(config, model, store, faults=faults)
    device = accelerator_of(options["accelerator"])
    named = list(model.named_parameters())
    optimizer = make(config["optimizer"], "optimizer", roots, parameters=named, device=device)
    model.check_trained()
    schedule = schedule_of(config)
    ema = None if config["ema"]["decay"] is None else Ema(model, **config["ema"])
    if faults and process.rank == 0:  # it will not start; what else would keep it from that is told with it
        beginning_of_all = dict.fromkeys(streams, 0)
        look(faults, config, directory, model.tasks, streams, beginning_of_all, state_bytes(model, optimizer, ema))
    faults.tell()
    facts = facts_of(config, model, streams)
    summing = ExactGradients if exact else Gradients
    guard = guard_of(config["sick"], list(config["tasks"]))
    module = Pretraining(model, optimizer, schedule, config["seed"], config["gradient_clip_norm"], ema, summing, guard)
    company = company_of(config["interruption"], process, directory, ending)
    held_out = [stream for evaluator in evaluators for stream in getattr(evaluator, "streams", ())]
    beginning = Beginning(config, overrides, directory, facts, streams, company, held_out, file)
    callbacks = [beginning, *edge_of_a_step(config, directory, evaluators, facts, streams, company, beginning)]
    trainer = build_trainer(config, process, callbacks)
    sizes = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in parameters(model).items())
    log.info("run %s to step %d; parameters: %s", directory.path, config["max_steps"], sizes)
    feed = Feed(config, streams, module, directory)
    try:
        SIGNALS.check()
        with company.attempts, company.lifeline:
            trainer.fit(module, datamodule=feed)
    except RankEnded as ended:
        if is_stop(ended):
            SIGNALS.leave()
        raise
    except Interrupted as cut:
        SIGNALS.leave()
        raise Stopped(f"{SIGNALS.described()}{cut.left}", SIGNALS.received) from None
    finally:
        feed.close()
        store.close()
    if trainer.is_global_zero:
        report(directory, module.start.step, config["max_steps"])


def edge_of_a_step(
    config: Mapping[str, Any],
    directory: RunDirectory,
    evaluators: list[Evaluator],
    facts: Mapping[str, Any],
    streams: Mapping[str, Stream],
    company: Company,
    beginning: Beginning,
) -> list[pl.Callback]:
    """What happens after each step, in this order: measure, note, watch, show, agree, answer, save, stop, draw."""
    max_steps = config["max_steps"]
    sizes = {name: spec["batch_size"] for name, spec in config["tasks"].items()}
    metrics = Metrics(directory, config["log_every_n_steps"], config["ledger"], streams, sizes)
    sick, incidents = config["sick"], Incidents(directory, streams, sizes)
    given = {"directory": directory, "metrics": metrics, "incidents": incidents}
    roots = tuple(config["trusted_roots"])
    alarms = [make(node, f"alarms.{name}", roots, **given) for name, node in config["alarms"].items()]
    options, measured = config["checkpoint"], config["evaluate"]
    kept, every = retention_of(options, rewinds_by(config)), options["every_n_steps"]
    saving = Checkpointing(directory, every, max_steps, kept, sizes, facts, options["asynchronous"], company.agreement)
    limits = {key: sick[key] for key in ("nonfinite", "spike", "patience", "max_skips")}
    return [
        Evaluation(directory, evaluators, measured["every_n_steps"], max_steps, measured["ema"], measured["untrained"]),
        metrics,
        *alarms,
        Quarantine(directory, **config["quarantine"], batch_sizes=sizes),
        ProgressReport(metrics, max_steps),
        Sickness(incidents, metrics, every, **limits),
        StepEdge(company, directory),
        Reaction(incidents, company.agreement, beginning, saving, directory, **sick["rewind"]),
        saving,
        StopOnSignal(saving, company, max_steps),  # before what may take long at the end of a run
        Report(directory, config["report"]["enabled"], config["report"]["every_s"]),
        Tracking(directory.path, names_of(config, directory.path)),
    ]


def parameters(model: Model) -> dict[str, int]:
    """Encoder or objective -> number of parameters."""
    parts = [*model.encoders.items(), *model.objectives.items()]
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts}

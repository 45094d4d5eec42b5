"""The evaluators of a run, from its config."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from data.errors import InputError
from data.store.store import Store
from modalities.prepare import Prepare
from pretrain.build import make
from pretrain.evaluation.galleries import galleries
from pretrain.evaluation.heldout import Heldout, check_heldout
from pretrain.evaluation.kinds.evaluator import SourceEvaluator
from pretrain.evaluation.scores import Evaluator
from pretrain.evaluation.setting import Setting
from pretrain.faults import Faults
from pretrain.inputs import plain_node
from pretrain.model import Model

log = logging.getLogger("pretrain")


def build_evaluators(
    config: Mapping[str, Any], model: Model, store: Store, workers: int = 0, faults: Faults | None = None
) -> list[Evaluator]:
    """Held-out metrics of each task that has held-out data, those of ``evaluators`` that this run can have, galleries.

    Args:
        config: of the run, resolved.
        model: what is to be measured.
        store: where shards are read from.
        workers: processes that prepare samples for evaluators; none beside those of a training.
        faults: gets what is wrong; None: it is raised.

    Raises:
        InputError: sources match nothing or lack a member, or an evaluator is none; a line for each.
    """
    noted = Faults() if faults is None else faults
    samples, batch_size = config["evaluate"]["samples"], config["evaluate"]["batch_size"]
    waits = (config["loader"]["warn_after_s"], config["loader"]["deadline_s"])
    max_share = config["quarantine"]["max_share"]
    found: list[Evaluator] = []
    for name, spec in config["tasks"].items():
        if spec["heldout"] is not None:
            with noted.noted():
                check_heldout(name, spec["heldout"], model.tasks[name].prepare.needs, store, max_share)
                found.append(Heldout(model.tasks[name], spec["heldout"], samples, batch_size, waits, store))
    roots = tuple(config["trusted_roots"])

    def inputs(encoder: str, beside: Collection[str], joint: bool, changed: Mapping[str, Any] | None = None) -> Prepare:
        node = plain_node(config["tasks"], encoder, roots, changed, beside, joint)
        prepare: Prepare = make(node, f"prepare of encoder '{encoder}'", roots)
        return prepare

    setting = Setting(inputs, store, samples, batch_size, waits, max_share, workers)
    for name, node in config["evaluators"].items():
        with noted.noted():
            evaluator = make(node, f"evaluators.{name}", roots)
            if not isinstance(evaluator, SourceEvaluator):
                raise InputError(
                    f"evaluators.{name} is a {type(evaluator).__name__}, not a "
                    "pretrain.evaluation.kinds.evaluator.SourceEvaluator"
                )
            reason = evaluator.missing(model)
            if reason:
                log.info("evaluator '%s' is left out: %s", name, reason)
            else:
                evaluator.open(name, setting)
                found.append(evaluator)
    if faults is None:
        noted.tell()
    if noted:  # it will not start, and what cannot be shown is told already
        return found
    return [*found, *_galleries(config, model, setting)]


def _galleries(config: Mapping[str, Any], model: Model, setting: Setting) -> list[Evaluator]:
    """What the report shows. Nobody has asked for it, so that what cannot be shown is no fault."""
    found: list[Evaluator] = []
    for name, gallery in galleries(config, model).items():
        try:
            gallery.open(name, setting)
        except InputError as error:
            log.info("held-out data is not shown as '%s': %s", name, error)
        else:
            found.append(gallery)
    return found

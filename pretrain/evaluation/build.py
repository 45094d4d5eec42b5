"""The evaluators of a run, from its config."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from data.store.store import Store
from pretrain.build import make
from pretrain.evaluation.heldout import Heldout, check_heldout
from pretrain.evaluation.kinds.retrieval import Retrieval
from pretrain.evaluation.scores import Evaluator
from pretrain.model import Model

log = logging.getLogger("pretrain")


def build_evaluators(config: Mapping[str, Any], model: Model, store: Store) -> list[Evaluator]:
    """Held-out metrics of each task that has held-out data, then those under ``evaluators`` that this run can have."""
    samples, batch_size = config["evaluate"]["samples"], config["evaluate"]["batch_size"]
    waits = (config["loader"]["warn_after_s"], config["loader"]["deadline_s"])
    max_share = config["quarantine"]["max_share"]
    found: list[Evaluator] = []
    for name, spec in config["tasks"].items():
        if spec["heldout"] is not None:
            check_heldout(name, spec["heldout"], model.tasks[name].prepare.needs, store, max_share)
            found.append(Heldout(model.tasks[name], spec["heldout"], samples, batch_size, waits, store))
    for name, node in config["evaluators"].items():
        evaluator: Retrieval = make(node, f"evaluators.{name}", tuple(config["trusted_roots"]))
        evaluator.name = name
        reason = "it has no source" if evaluator.source is None else evaluator.missing(model)
        if reason:
            log.info("evaluator '%s' is left out: %s", name, reason)
            continue
        evaluator.open(name, samples, batch_size, waits, store, max_share)
        found.append(evaluator)
    return found

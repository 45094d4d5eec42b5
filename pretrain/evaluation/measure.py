"""One measurement: what evaluators find in a model as it is now."""

from __future__ import annotations

from collections.abc import Callable

import torch

from data.errors import InputError
from pretrain.evaluation.scores import Evaluator, Scores
from pretrain.model import Model
from pretrain.sharding.shard import reshard


def measure(
    model: Model, evaluators: list[Evaluator], failed: Callable[[Evaluator, Exception], None] | None = None
) -> Scores:
    """What all ``evaluators`` find, with the model in evaluation mode.

    Args:
        model: as it is now.
        evaluators: of its run; every rank has the same.
        failed: told of one that its samples give nothing to measure by, on every rank; None: that is an error.
    """

    def tried(evaluator: Evaluator) -> Scores:
        # Within the pass: one that an error leaves is not over for what gathers and releases its parameters.
        try:
            return evaluator(model)
        except InputError as error:
            if failed is None:
                raise
            failed(evaluator, error)
            return {}

    model.eval()
    scores: Scores = {}
    with torch.no_grad():
        for evaluator in evaluators:
            scores |= model.run(tried, evaluator)
    for evaluator in evaluators:
        getattr(evaluator, "forget", lambda: None)()  # embeddings of these very weights
    model.train()
    reshard(model)  # what was gathered may be averages, and is not the next step's
    return scores

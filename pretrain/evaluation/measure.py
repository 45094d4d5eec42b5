"""One measurement: what evaluators find in a model as it is now."""

from __future__ import annotations

import torch

from pretrain.evaluation.scores import Evaluator, Scores
from pretrain.model import Model
from pretrain.sharding.shard import reshard


def measure(model: Model, evaluators: list[Evaluator]) -> Scores:
    """What all ``evaluators`` find, with the model in evaluation mode."""
    model.eval()
    scores: Scores = {}
    with torch.no_grad():
        for evaluator in evaluators:
            scores |= model.run(evaluator, model)
    for evaluator in evaluators:
        getattr(evaluator, "forget", lambda: None)()  # embeddings of these very weights
    model.train()
    reshard(model)  # what was gathered may be averages, and is not the next step's
    return scores

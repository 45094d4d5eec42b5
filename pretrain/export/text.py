"""A text encoder as BERT, ModernBERT or GPT-2: alone, or with the head of masked or causal language modelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from data.errors import InputError
from modalities.hf_config import Described, Settings, unlike
from modalities.objective import Objective
from modalities.text.causal_lm import CausalLM
from modalities.text.encoder import TextEncoder, output_matrix
from modalities.text.masked_lm import MaskedLM
from pretrain.export import probes
from pretrain.export.plan import Pair, Plan
from pretrain.export.weights import outgoing

ARCHITECTURES = {
    "bert": ("BertModel", "BertForMaskedLM"),
    "modernbert": ("ModernBertModel", "ModernBertForMaskedLM"),
    "gpt2": ("GPT2Model", "GPT2LMHeadModel"),
}
LONGEST = 512
"""Tokens of the longest probe text at most: so many positions are compared, and both kinds of layers of a window."""


def plan(
    encoder: TextEncoder,
    settings: Settings,
    described: Described,
    objective: Objective | None,
    where: str,
    ids: Mapping[str, int | None],
) -> Plan:
    """The class of ``transformers`` that computes what ``encoder``, and ``objective`` if given, computes.

    Args:
        encoder: with the weights to be written.
        settings: its settings.
        described: the family that fits them.
        objective: masked or causal language modelling; None: the encoder alone.
        where: place of the objective in the config, for messages.
        ids: special token ids, ``pad_token_id`` and so on.

    Raises:
        InputError: the objective's head is one that the family lacks.
    """
    head = {} if objective is None else _head(described, objective, settings, where)
    state = None if objective is None else objective.state_dict()
    if isinstance(objective, CausalLM):
        state = {}  # its bias is zero, see _head
    alone, full = ARCHITECTURES[described.family]
    architecture = alone if objective is None else full
    config = {
        "architectures": [architecture], "model_type": described.family, **described.config, **described.more, **head,
        **ids, "tie_word_embeddings": True, "dtype": "float32",
    }  # fmt: skip
    notes = []
    if described.family == "modernbert":  # also by the names that versions 4 of transformers read
        bases = described.config["rope_parameters"]
        config |= {"global_rope_theta": bases["full_attention"]["rope_theta"]}
        config |= {"local_rope_theta": bases["sliding_attention"]["rope_theta"]}
    if described.family == "bert":
        notes.append("BertModel's pooler is not part of the weights; use the hidden states (add_pooling_layer=False).")
    longest = settings["max_tokens"] if settings["positions"] == "learned" else max(64, 4 * settings["trunk.window"])

    def probe(theirs: Any) -> list[Pair]:
        return _pairs(encoder, objective, theirs, min(longest, LONGEST))

    weights = outgoing(described.family, settings, encoder.state_dict(), state)
    return Plan(architecture, config, weights, probe, causal=described.family == "gpt2", notes=notes)


def _head(described: Described, objective: Objective, settings: Settings, where: str) -> dict[str, Any]:
    """Keys of config.json that the head adds.

    Raises:
        InputError: the family cannot express the head.
    """
    family, name = described.family, described.published
    if isinstance(objective, CausalLM):
        if objective.bias is not None and bool(objective.bias.detach().any()):
            raise InputError(
                f"{where}.bias=true ({name} has none: +{where}.bias=false); --encoder writes the encoder alone"
            )
        return {}
    assert isinstance(objective, MaskedLM)
    lines = head_differences(described, objective, settings)
    if lines:
        raise InputError(f"{where} is not the head of {name}: {'; '.join(lines)}; --encoder writes the encoder alone")
    return {"decoder_bias": objective.bias is not None, "classifier_bias": False} if family == "modernbert" else {}


def head_differences(described: Described, objective: MaskedLM, settings: Settings) -> list[str]:
    """A line for each setting by which a masked-LM head is not that of BERT or ModernBERT."""
    family, name = described.family, described.published
    kind = "none" if objective.dense is None else "modernbert" if objective.dense.bias is None else "bert"
    allowed = ("modernbert",) if family == "modernbert" else ("bert", "modernbert")
    lines = unlike({"head": kind}, name, {"head": allowed})
    if isinstance(objective.norm, nn.LayerNorm) and objective.norm.eps != settings["trunk.norm_eps"]:
        lines.append(f"norm_eps={objective.norm.eps} ({name} needs that of the trunk, {settings['trunk.norm_eps']})")
    if family == "bert" and settings["trunk.activation"] != "gelu":
        activation = settings["trunk.activation"]
        lines.append(f"its activation is gelu ({name} needs that of the trunk, trunk.activation={activation})")
    if family == "modernbert" and settings["trunk.norm_bias"]:
        lines.append("head=modernbert (ModernBERT's has a bias in its norm where trunk.norm_bias=true)")
    return lines


@torch.no_grad()
def _pairs(encoder: TextEncoder, objective: Objective | None, theirs: Any, longest: int) -> list[Pair]:
    inputs, texts = probes.text(encoder.vocab_size, longest)
    hidden = encoder(inputs).tokens
    out = theirs(**probes.padded(texts), output_hidden_states=True)
    if objective is None:
        return [Pair("last_hidden_state", hidden, probes.rows(out.last_hidden_state, texts))]
    made = objective.transform(hidden) if isinstance(objective, MaskedLM) else hidden
    bias: Tensor | None = getattr(objective, "bias", None)
    logits = made @ output_matrix(encoder).T
    logits = logits if bias is None else logits + bias
    return [
        Pair("hidden_states", hidden, probes.rows(out.hidden_states[-1], texts)),
        Pair("logits", logits, probes.rows(out.logits, texts)),
    ]

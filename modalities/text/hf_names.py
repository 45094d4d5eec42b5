"""Names of the weights of BERT, ModernBERT and GPT-2 in ``transformers``, both ways (see modalities/hf_names.py).

Here a model is an encoder and an objective; names of the two are told apart by ``encoder.`` and ``objective.``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from data.errors import InputError, choices
from modalities.hf_names import Name, Table, plain, to_ours, to_theirs


class Family(NamedTuple):
    """How one published architecture is named.

    Attributes:
        model: its class in ``transformers``.
        outer: our layer -> theirs, outside of the blocks.
        block: their name of block ``{n}``.
        inner: our layer of a block -> theirs, or the parts that lie one after another in ours.
        tied: further name there -> the name there whose tensor it shares.
        unused: beginnings of names there that no objective here has a use for.
        turned: ends of names there whose tensor is the transpose of ours (GPT-2 keeps weights as (in, out)).
    """

    model: str
    outer: dict[str, str]
    block: str
    inner: dict[str, str | tuple[str, ...]]
    tied: dict[str, str]
    unused: tuple[str, ...] = ()
    turned: tuple[str, ...] = ()


FAMILIES: dict[str, Family] = {
    "bert": Family(
        "BertForMaskedLM",
        {
            "encoder.token_embedding": "bert.embeddings.word_embeddings",
            "encoder.position_embedding": "bert.embeddings.position_embeddings",
            "encoder.type_embedding": "bert.embeddings.token_type_embeddings",
            "encoder.trunk.input_norm": "bert.embeddings.LayerNorm",
            "objective.dense": "cls.predictions.transform.dense",
            "objective.norm": "cls.predictions.transform.LayerNorm",
            "objective": "cls.predictions",
        },
        "bert.encoder.layer.{n}",
        {
            "attention_in": ("attention.self.query", "attention.self.key", "attention.self.value"),
            "attention_out": "attention.output.dense",
            "attention_norm": "attention.output.LayerNorm",
            "mlp_in": "intermediate.dense",
            "mlp_out": "output.dense",
            "mlp_norm": "output.LayerNorm",
        },
        {
            "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
            "cls.predictions.decoder.bias": "cls.predictions.bias",
        },
        ("bert.pooler.", "cls.seq_relationship.", "bert.embeddings.position_ids"),
    ),
    "modernbert": Family(
        "ModernBertForMaskedLM",
        {
            "encoder.token_embedding": "model.embeddings.tok_embeddings",
            "encoder.trunk.input_norm": "model.embeddings.norm",
            "encoder.trunk.norm": "model.final_norm",
            "objective.dense": "head.dense",
            "objective.norm": "head.norm",
            "objective": "decoder",
        },
        "model.layers.{n}",
        {
            "attention_norm": "attn_norm",
            "attention_in": "attn.Wqkv",
            "attention_out": "attn.Wo",
            "mlp_norm": "mlp_norm",
            "mlp_in": "mlp.Wi",
            "mlp_out": "mlp.Wo",
        },
        {"decoder.weight": "model.embeddings.tok_embeddings.weight"},
    ),
    "gpt2": Family(
        "GPT2LMHeadModel",
        {
            "encoder.token_embedding": "transformer.wte",
            "encoder.position_embedding": "transformer.wpe",
            "encoder.trunk.norm": "transformer.ln_f",
        },
        "transformer.h.{n}",
        {
            "attention_norm": "ln_1",
            "attention_in": "attn.c_attn",
            "attention_out": "attn.c_proj",
            "mlp_norm": "ln_2",
            "mlp_in": "mlp.c_fc",
            "mlp_out": "mlp.c_proj",
        },
        {"lm_head.weight": "transformer.wte.weight"},
        turned=("c_attn.weight", "c_proj.weight", "c_fc.weight"),
    ),
}
_TYPES, _POSITIONS = "encoder.type_embedding.weight", "encoder.position_embedding.weight"


def from_hf(family: str, weights: Mapping[str, Tensor], fold_types: bool = False) -> dict[str, Tensor]:
    """Weights by our names (``encoder.*``, ``objective.*``) from those of the class in ``transformers``.

    Args:
        family: a key of :data:`FAMILIES`.
        weights: its ``state_dict``, or anything by its names (gradients, say).
        fold_types: adds BERT's embedding of token type 0 to every position's, for an encoder with ``token_types=0``.

    Raises:
        InputError: unknown family, a name that has no place here, or a part without its siblings.
    """
    made = _family(family)
    rest = {
        name: tensor.t() if made.turned and name.endswith(made.turned) else tensor
        for name, tensor in weights.items()
        if name not in made.tied and not name.startswith(made.unused or ("\0",))
    }
    table = [name for name in _table(made, rest) if any(key in rest for key in name.theirs)]
    _nothing_else(rest, {key for name in table for key in name.theirs}, made)
    found = to_ours(table, rest)
    if fold_types:
        found[_POSITIONS] = found[_POSITIONS] + found.pop(_TYPES)[0]
    return {name: tensor.contiguous() for name, tensor in found.items()}


def to_hf(family: str, weights: Mapping[str, Tensor], types: int = 2) -> dict[str, Tensor]:
    """The way back: by the names of the class in ``transformers``, tied ones included.

    Args:
        family: a key of :data:`FAMILIES`.
        weights: ours, ``encoder.*`` and ``objective.*``; projections into joint spaces are left out.
        types: for BERT without an embedding of token types, how many (of zeros) to write.

    Raises:
        InputError: unknown family, or a name that has no place there.
    """
    made = _family(family)
    rest = {name: tensor for name, tensor in weights.items() if not name.startswith("encoder.projections.")}
    if family == "bert" and _TYPES not in rest and _POSITIONS in rest:
        rest[_TYPES] = rest[_POSITIONS].new_zeros(types, rest[_POSITIONS].shape[1])
    table = [name for name in _table(made, rest) if name.ours in rest]
    _nothing_else(rest, {name.ours for name in table}, made)
    found = {
        name: (tensor.t() if made.turned and name.endswith(made.turned) else tensor).contiguous()
        for name, tensor in to_theirs(table, rest).items()
    }
    return found | {name: found[source] for name, source in made.tied.items() if source in found}


def known(family: str, depth: int) -> set[str]:
    """Every name of the class in ``transformers`` that has a place here, for ``depth`` blocks; tied ones left out."""
    last = {str(depth - 1): torch.empty(0)}
    return {key for name in _table(_family(family), last) for key in name.theirs}


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise InputError(f"family '{name}' is unknown; {choices(name, FAMILIES)}")
    return FAMILIES[name]


def _table(family: Family, weights: Mapping[str, Tensor]) -> Table:
    """Every name that the family may have, for as many blocks as ``weights`` have."""
    depth = 1 + max((int(part) for name in weights for part in name.split(".") if part.isdecimal()), default=-1)
    table = [name for ours, theirs in family.outer.items() for name in plain(ours, theirs)]
    for n in range(depth):
        for ours, theirs in family.inner.items():
            keys = (theirs,) if isinstance(theirs, str) else theirs
            table += [
                Name(
                    f"encoder.trunk.blocks.{n}.{ours}.{part}",
                    tuple(f"{family.block.format(n=n)}.{key}.{part}" for key in keys),
                )
                for part in ("weight", "bias")
            ]
    return table


def _nothing_else(weights: Mapping[str, Tensor], known: set[str], family: Family) -> None:
    more = sorted(set(weights) - known)
    if more:
        raise InputError(f"{family.model} and these settings differ: no place for {', '.join(more[:5])}")

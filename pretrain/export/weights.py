"""Weights of an encoder and its objective under the names of a family, both ways, with what can be folded exactly."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from data.errors import InputError
from modalities.audio.hf_names import wav2vec2, wav2vec2_pretraining
from modalities.hf_config import Settings
from modalities.hf_names import Name, Table, present, to_ours, to_theirs, under
from modalities.image.hf_names import clip_vision
from modalities.text.clip_names import clip_text
from modalities.text.hf_names import FAMILIES, from_hf, known, to_hf

State = dict[str, Tensor]
BASES = {
    "bert": "bert.", "modernbert": "model.", "gpt2": "transformer.", "wav2vec2": "wav2vec2.",
    "clip_text": "text_model.", "clip_vision": "vision_model.",
}  # fmt: skip
"""Family -> what stands before the encoder's names in a class with a head."""
# Buffers that older versions wrote, which hold no weights.
_BUFFERS = re.compile(r"(.*\.)?(position_ids|attn\.bias|attn\.masked_bias|rotary_emb\.inv_freq)")


class Arrived(NamedTuple):
    """Weights by our names: ``encoder``'s and ``objective``'s; names in the files that have no place (``unused``)."""

    encoder: State
    objective: State
    unused: list[str]


def outgoing(
    family: str, settings: Settings, encoder: Mapping[str, Tensor], objective: Mapping[str, Tensor] | None
) -> State:
    """Their state from ours, float32; names tied to another are left out, as in files of ``transformers``.

    Args:
        family: see :class:`modalities.hf_config.Described`.
        settings: of the encoder.
        encoder: its state; of its projections the only one, if there is one.
        objective: the state of the objective that the class has a head for; None: the encoder alone.
    """
    own, other = _exact(encoder), _exact(objective or {})
    if family != "modernbert":
        own = _with_biases(own)
    if family in FAMILIES:
        return _outgoing_text(family, own, other, alone=objective is None)
    if family == "clip_vision":
        own = _as_clip(own)
    table, head = _tables(family, settings, own, other)
    if family == "wav2vec2" and settings["frontend_bias"] and settings["frontend_norm"] == "group":
        # Theirs has one in front of the norm over frames as well, which takes it away; ours does without.
        first = next(name for name in table if name.ours == "frontend.convs.0.weight")
        table.append(Name("frontend.convs.0.bias", (first.theirs[0].removesuffix("weight") + "bias",)))
        own["frontend.convs.0.bias"] = torch.zeros(settings["channels"])
    return _plain(to_theirs(table, own) | to_theirs(head, other))


def _outgoing_text(family: str, encoder: State, objective: State, alone: bool) -> State:
    whole = {f"encoder.{name}": tensor for name, tensor in encoder.items()}
    if not alone and family == "bert":
        objective = _with_biases(objective, every=True)
        objective.setdefault("bias", torch.zeros(len(encoder["token_embedding.weight"])))
    whole |= {f"objective.{name}": tensor for name, tensor in objective.items()}
    found = {name: tensor for name, tensor in to_hf(family, whole).items() if name not in FAMILIES[family].tied}
    if alone:
        return _plain({name.removeprefix(BASES[family]): tensor for name, tensor in found.items()})
    return _plain(found)


def incoming(
    family: str, settings: Settings, encoder: Mapping[str, Tensor], objective: Mapping[str, Tensor], theirs: State
) -> Arrived:
    """Our state from theirs, of any class of the family, also as older versions wrote it.

    Args:
        family: of the encoder that takes it.
        settings: of that encoder.
        encoder: its state, to be filled.
        objective: the state of the objective that the class has a head for, or nothing.
        theirs: by their names.

    Raises:
        InputError: a tensor that the encoder needs is missing, or a bias that it has no place for is not zero.
    """
    originals = _renamed(family, theirs)
    given = {name: theirs[original] for name, original in originals.items()}
    if family in FAMILIES:
        names = known(family, settings["depth"])
        fold = (
            family == "bert" and not settings["token_types"] and "bert.embeddings.token_type_embeddings.weight" in given
        )
        found = from_hf(family, {name: tensor for name, tensor in given.items() if name in names}, fold_types=fold)
        parts = [_part(found, "encoder."), _part(found, "objective.")]
    else:
        held = dict(encoder)
        table, head = _tables(
            family, settings, _as_clip(held) if family == "clip_vision" else _with_biases(held), objective
        )
        if family == "wav2vec2" and not head:
            table = under(BASES[family], table)
        head = head if _same_head(given, head, objective) else []
        optional = ("projections.", "mask_embedding")
        table = [name for name in table if not name.ours.startswith(optional) or name.theirs[0] in given]
        names = {key for name in (*table, *head) for key in name.theirs}
        try:
            parts = [to_ours(table, given), to_ours(head, given)]
        except RuntimeError as error:  # of reshape
            raise InputError(f"the weights are not of the sizes that config.json says: {error}") from None
    unused = sorted(originals[name] for name in given.keys() - names)
    if family == "clip_vision":
        parts[0] = _from_clip(parts[0], encoder)
    return Arrived(_without_zeros(parts[0], encoder), _without_zeros(parts[1], objective), unused)


def _same_head(given: State, head: Table, objective: Mapping[str, Tensor]) -> bool:
    """Whether the objective's tensors are all there, in its sizes."""
    return all(
        key in given and sum(given[key].numel() for key in name.theirs) == objective[name.ours].numel()
        for name in head
        for key in name.theirs
    )


def _tables(
    family: str, settings: Settings, encoder: Mapping[str, Tensor], objective: Mapping[str, Tensor]
) -> tuple[Table, Table]:
    """Of the encoder and of the objective; for families without :data:`FAMILIES`."""
    dims = [int(name.split(".")[1]) for name in encoder if name.startswith("projections.")]
    joint = dims[0] if len(dims) == 1 else None
    scale = [Name("logit_scale", ("logit_scale",))] if "logit_scale" in objective else []
    if family == "clip_text":
        return clip_text(settings["depth"], joint), scale
    if family == "clip_vision":
        return clip_vision(settings["depth"], settings["width"], settings["patch_size"], joint), scale
    table = wav2vec2(settings["depth"], len(settings["kernels"]), settings["frontend_norm"], settings["frontend_bias"])
    place = "trunk.norm." if settings["norm"] == "pre" else "trunk.input_norm."
    table = [
        name._replace(ours=re.sub(r"^trunk\.(input_)?norm\.", place, name.ours))
        for name in table
        if name.ours != "mask_embedding" or "mask_embedding" in encoder
    ]
    if "quantizer.codebook" not in objective:
        return table, []
    groups, size, each = objective["quantizer.codebook"].shape
    return wav2vec2_pretraining(table, groups, size, groups * each)


def _with_biases(state: Mapping[str, Tensor], every: bool = False) -> State:
    """Zeros for each bias that the trunk's layers (``every``: all layers) do without."""
    found = dict(state)
    for name, tensor in state.items():
        inside = every or name.startswith(("trunk.", "pooled_norm."))
        if inside and name.endswith(".weight"):
            found.setdefault(f"{name.removesuffix('weight')}bias", torch.zeros(len(tensor)))
    return found


def _as_clip(encoder: Mapping[str, Tensor]) -> State:
    """Without a bias of the patches, and the norm behind the trunk as that of the pooled vector."""
    found = _with_biases(encoder)
    bias = found.pop("patch_embedding.bias", None)
    if bias is not None and bool(bias.any()):
        positions = found["positions"].clone()
        positions[1:] += bias
        found["positions"] = positions
    for part in ("weight", "bias"):
        if f"trunk.norm.{part}" in found:
            found[f"pooled_norm.{part}"] = found.pop(f"trunk.norm.{part}")
    return found


def _from_clip(arrived: State, encoder: Mapping[str, Tensor]) -> State:
    """The way back into an encoder that has a bias of the patches, or its norm behind the trunk."""
    found = dict(arrived)
    if "patch_embedding.bias" in encoder:
        found["patch_embedding.bias"] = torch.zeros_like(encoder["patch_embedding.bias"])
    if "trunk.norm.weight" in encoder:
        for part in ("weight", "bias"):
            found[f"trunk.norm.{part}"] = found.pop(f"pooled_norm.{part}")
    return found


def _without_zeros(arrived: State, own: Mapping[str, Tensor]) -> State:
    """Leaves out zeros for which there is no place here; anything else without a place is refused."""
    found = {}
    for name, tensor in arrived.items():
        if name in own or not own:
            found[name] = tensor
        elif bool(tensor.any()):
            raise InputError(f"the weights have '{name}', which is not zero and which this encoder or objective lacks")
    return found


def _renamed(family: str, theirs: Iterable[str]) -> dict[str, str]:
    """Name in the present class with a head -> name in the files; buffers and names tied to another are left out."""
    tied = FAMILIES[family].tied if family in FAMILIES else {}
    found = {}
    for original in theirs:
        name = present(original)
        if not _BUFFERS.fullmatch(name):
            found[name] = original
    base = BASES[family]
    if not any(name.startswith(base) for name in found):
        found = {base + name: original for name, original in found.items()}
    return {name: original for name, original in found.items() if name not in tied}


def _part(state: Mapping[str, Tensor], prefix: str) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _exact(state: Mapping[str, Tensor]) -> State:
    return {name: tensor.detach().cpu().float() for name, tensor in state.items()}


def _plain(state: Mapping[str, Tensor]) -> State:
    return {name: tensor.contiguous() for name, tensor in state.items()}

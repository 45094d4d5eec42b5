"""An image and a text encoder as CLIP, or one of its towers alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from data.errors import InputError
from modalities.contrastive import MAX_LOGIT_SCALE, Contrastive
from modalities.encoder import Encoder
from modalities.hf_config import Described, Settings
from modalities.image.encoder import ImageEncoder
from modalities.text.encoder import TextEncoder
from pretrain.export import probes
from pretrain.export.plan import Pair, Plan
from pretrain.export.weights import State, outgoing

BILINEAR = 2
"""Of Pillow, as :class:`modalities.image.prepare.ImagePrepare` resizes."""
TYPES = {"clip_text": "clip_text_model", "clip_vision": "clip_vision_model"}


def tower(
    encoder: Encoder, settings: Settings, described: Described, joint: int | None, ids: Mapping[str, int | None]
) -> Plan:
    """``CLIPTextModel`` or ``CLIPVisionModel``; with a projection to ``joint`` features ``...WithProjection``.

    Raises:
        InputError: the tokenizer's end token is one that CLIP's text tower cannot pool at.
    """
    name = "CLIPVisionModel" if isinstance(encoder, ImageEncoder) else "CLIPTextModel"
    architecture = name if joint is None else f"{name}WithProjection"
    config = {"architectures": [architecture], **_config(described, joint, ids), "dtype": "float32"}
    weights = outgoing(described.family, settings, _state(encoder, joint), {})

    def probe(theirs: Any) -> list[Pair]:
        return _tower_pairs(encoder, theirs, joint, settings, ids)

    files = {"preprocessor_config.json": picture_processor(encoder)} if isinstance(encoder, ImageEncoder) else {}
    processor = "CLIPImageProcessor" if files else None
    return Plan(architecture, config, weights, probe, files, processor=processor, notes=_notes(encoder))


def pair(
    image: ImageEncoder,
    image_fit: tuple[Settings, Described],
    text: TextEncoder,
    text_fit: tuple[Settings, Described],
    objective: Contrastive,
    ids: Mapping[str, int | None],
) -> Plan:
    """``CLIPModel`` of both encoders and the learned temperature.

    Raises:
        InputError: see :func:`tower`.
    """
    joint = objective.embed_dim
    scale = objective.logit_scale.detach().float().clamp(max=MAX_LOGIT_SCALE)
    config = {
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": joint,
        "logit_scale_init_value": 2.6592, "dtype": "float32",
        "vision_config": _config(image_fit[1], joint, {}), "text_config": _config(text_fit[1], joint, ids),
    }  # fmt: skip
    weights: State = {"logit_scale": scale}
    for encoder, (settings, described) in ((image, image_fit), (text, text_fit)):
        weights |= outgoing(described.family, settings, _state(encoder, joint), {})

    def probe(theirs: Any) -> list[Pair]:
        return _pairs(image, text, theirs, joint, scale, text_fit[0]["max_tokens"], ids)

    files = {"preprocessor_config.json": picture_processor(image)}
    notes = _notes(image)
    return Plan("CLIPModel", config, weights, probe, files, processor="CLIPProcessor", notes=notes)


def picture_processor(encoder: ImageEncoder) -> dict[str, Any]:
    """preprocessor_config.json: what held-out pictures go through here.

    The same to the bit for square ones. ``transformers`` resizes before it crops, to whole pixels: of others the crop
    lies up to about a pixel elsewhere. A large JPEG is decoded at a smaller scale here, which it does not.
    """
    side = encoder.image_size
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True, "do_resize": True, "size": {"shortest_edge": side}, "resample": BILINEAR,
        "do_center_crop": True, "crop_size": {"height": side, "width": side},
        "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [round(float(x) / 255, 8) for x in encoder.mean.flatten()],
        "image_std": [round(float(x) / 255, 8) for x in encoder.spread.flatten()],
    }  # fmt: skip


def _config(described: Described, joint: int | None, ids: Mapping[str, int | None]) -> dict[str, Any]:
    found = {"model_type": TYPES[described.family], **described.config, **described.more}
    found |= {} if joint is None else {"projection_dim": joint}
    if described.family == "clip_text":
        if ids.get("eos_token_id") is None:
            raise InputError(
                "CLIP pools texts at their end token, which only their tokenizer says; give --tokenizer FILE"
            )
        if ids["eos_token_id"] == 2:  # transformers takes 2 for a mistake of old files and pools at the largest id
            raise InputError(
                "the tokenizer's end token has the id 2, at which CLIPTextModel of transformers cannot pool"
            )
        if ids["eos_token_id"] == ids["bos_token_id"]:  # it pools at the first of them: all texts would be one vector
            raise InputError(
                "the tokenizer has one token for start and end (as GPT-2's), and CLIPTextModel of transformers would "
                "pool each text at its start; train with one that has two, as CLIP's or of 'shards pack --tokenizer N'"
            )
        found |= ids
    return found


def _state(encoder: Encoder, joint: int | None) -> State:
    """Of its projections that to ``joint`` alone."""
    kept = f"projections.{joint}."
    return {n: t for n, t in encoder.state_dict().items() if not n.startswith("projections.") or n.startswith(kept)}


def _notes(encoder: Encoder) -> list[str]:
    if isinstance(encoder, ImageEncoder) and encoder.pooled_norm is None:
        return ["Its norm behind the trunk is written as the norm of the class token: hidden states come without it."]
    return []


def _texts(encoder: TextEncoder, longest: int, ids: Mapping[str, int | None]) -> Any:
    return probes.text(encoder.vocab_size, min(longest, 128), ids["eos_token_id"], ids["bos_token_id"])


@torch.no_grad()
def _tower_pairs(
    encoder: Encoder, theirs: Any, joint: int | None, settings: Settings, ids: Mapping[str, int | None]
) -> list[Pair]:
    given: dict[str, Any]
    if isinstance(encoder, ImageEncoder):
        inputs, pixels = probes.pictures(encoder)
        given = {"pixel_values": pixels}
    else:
        assert isinstance(encoder, TextEncoder)
        inputs, texts = _texts(encoder, settings["max_tokens"], ids)
        given = probes.padded(texts)
    out = theirs(**given)
    if joint is None:
        return [Pair("pooler_output", encoder.pooled(inputs), out.pooler_output)]
    embeds = out.image_embeds if isinstance(encoder, ImageEncoder) else out.text_embeds
    return [Pair("embeds", encoder.embed(inputs, joint), embeds)]


@torch.no_grad()
def _pairs(
    image: ImageEncoder,
    text: TextEncoder,
    theirs: Any,
    joint: int,
    scale: torch.Tensor,
    longest: int,
    ids: Mapping[str, int | None],
) -> list[Pair]:
    pictures, pixels = probes.pictures(image)
    words, texts = _texts(text, longest, ids)
    out = theirs(pixel_values=pixels, **probes.padded(texts))
    a, b = (F.normalize(e.embed(i, joint), dim=-1) for e, i in ((image, pictures), (text, words)))
    return [
        Pair("image_embeds", a, out.image_embeds),
        Pair("text_embeds", b, out.text_embeds),
        Pair("logits_per_image", scale.exp() * a @ b.T, out.logits_per_image),
    ]

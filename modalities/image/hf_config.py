"""Image encoders as CLIP's image tower (see modalities/hf_config.py)."""

from __future__ import annotations

from modalities.hf_config import ACTIVATIONS, Described, Settings, activation, even_heads, hidden, unlike

DEFAULTS = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "image_size": 224, "patch_size": 32, "num_channels": 3, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
"""What a key that a vision config leaves out means."""


def clip_vision(settings: Settings) -> Described:
    """``CLIPVisionModel`` (Radford et al. 2021, section 2.4).

    Missing biases are written as zeros, a bias of the patches is added to their positions, and a last norm over all
    positions is written as that of the class token, whose vector is the same.
    """
    published = "CLIP's image tower"
    settings = settings | {
        "class_token": settings["pool"] == "first" if settings["class_token"] is None else settings["class_token"],
        "stem": list(settings["stem"]),
        "norm of the pooled vector": settings["pooled_norm"] != settings["trunk.final_norm"],
    }
    needed = {
        "stem": [], "norm": "pre", "pool": "first", "class_token": True, "norm of the pooled vector": True,
        "trunk.norm_kind": "layer", "trunk.window": 0, "trunk.first_norm": True, "trunk.input_norm": True,
        "trunk.activation": tuple(ACTIVATIONS),
    }  # fmt: skip
    config = {
        "hidden_size": settings["width"],
        "num_hidden_layers": settings["depth"],
        "num_attention_heads": settings["heads"],
        "intermediate_size": hidden(settings),
        "image_size": settings["image_size"],
        "patch_size": settings["patch_size"],
        "num_channels": 3,
        "hidden_act": activation(settings),
        "layer_norm_eps": settings["trunk.norm_eps"],
    }
    more = {"attention_dropout": settings["trunk.attention_dropout"]}
    lines = unlike(settings, published, needed) + even_heads(settings, published)
    return Described("clip_vision", published, config, lines, more)

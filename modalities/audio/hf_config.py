"""Audio encoders as wav2vec 2.0 (see modalities/hf_config.py)."""

from __future__ import annotations

from modalities.hf_config import ACTIVATIONS, Described, Settings, activation, even_heads, hidden, unlike

DEFAULTS = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "gelu", "layer_norm_eps": 1e-5, "feat_extract_norm": "group", "feat_extract_activation": "gelu",
    "conv_dim": [512] * 7, "conv_stride": [5, 2, 2, 2, 2, 2, 2], "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_bias": False, "num_conv_pos_embeddings": 128, "num_conv_pos_embedding_groups": 16,
    "do_stable_layer_norm": False, "add_adapter": False,
}  # fmt: skip
"""What a key that a config.json leaves out means."""


def wav2vec2(settings: Settings) -> Described:
    """``Wav2Vec2Model`` (Baevski et al. 2020): the base model has its norms behind each layer, the large one before."""
    published, stable = "wav2vec 2.0", settings["norm"] == "pre"
    needed = {
        "mel_bands": 0, "positions": "convolutional", "trunk.norm_kind": "layer", "trunk.window": 0,
        "trunk.first_norm": True, "trunk.input_norm": not stable, "trunk.final_norm": stable,
        "trunk.activation": tuple(ACTIVATIONS), "trunk.norm_eps": 1e-5,
    }  # fmt: skip
    config = {
        "hidden_size": settings["width"],
        "num_hidden_layers": settings["depth"],
        "num_attention_heads": settings["heads"],
        "intermediate_size": hidden(settings),
        "hidden_act": activation(settings),
        "layer_norm_eps": settings["trunk.norm_eps"],
        "do_stable_layer_norm": stable,
        "feat_extract_norm": settings["frontend_norm"],
        "feat_extract_activation": "gelu",
        "conv_dim": [settings["channels"]] * len(settings["kernels"]),
        "conv_kernel": list(settings["kernels"]),
        "conv_stride": list(settings["strides"]),
        "conv_bias": settings["frontend_bias"],
        "num_conv_pos_embeddings": settings["position_kernel"],
        "num_conv_pos_embedding_groups": settings["position_groups"],
        "add_adapter": False,
    }
    more = {
        "hidden_dropout": settings["dropout"],
        "attention_dropout": settings["trunk.attention_dropout"],
        "activation_dropout": settings["trunk.mlp_dropout"],
        "feat_proj_dropout": settings["feature_dropout"],
        "layerdrop": settings["trunk.layer_drop"],
        "mask_time_prob": 0.05 if settings["masking"] else 0.0,
    }
    lines = unlike(settings, published, needed) + even_heads(settings, published)
    return Described("wav2vec2", published, config, lines, more)

"""Text encoders as BERT, ModernBERT, GPT-2 or CLIP's text tower (see modalities/hf_config.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data.errors import InputError
from modalities.hf_config import ACTIVATIONS, Described, Settings, activation, even_heads, hidden, unlike

_PLAIN = {"trunk.norm_kind": "layer", "trunk.window": 0, "trunk.first_norm": True}
_UNGATED = {"trunk.activation": tuple(ACTIVATIONS)}

DEFAULTS = {
    "bert": {
        "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu", "max_position_embeddings": 512, "layer_norm_eps": 1e-12,
        "is_decoder": False, "position_embedding_type": "absolute",
    },
    "modernbert": {
        "vocab_size": 50368, "hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 22,
        "num_attention_heads": 12, "hidden_activation": "gelu", "norm_eps": 1e-5, "norm_bias": False,
        "attention_bias": False, "mlp_bias": False, "local_attention": 128,
    },
    "gpt2": {
        "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False, "reorder_and_upcast_attn": False,
    },
    "clip_text": {
        "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
        "num_attention_heads": 8, "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
    },
}  # fmt: skip
"""Family -> what a key that its config.json leaves out means."""


def bert(settings: Settings) -> Described:
    """``BertModel`` (Devlin et al. 2019). Missing biases are written as zeros, and so are missing token types."""
    needed = _PLAIN | _UNGATED | {
        "norm": "post", "positions": "learned", "causal": False, "trunk.input_norm": True, "trunk.final_norm": False,
    }  # fmt: skip
    config = {
        "vocab_size": settings["vocab_size"],
        "hidden_size": settings["width"],
        "num_hidden_layers": settings["depth"],
        "num_attention_heads": settings["heads"],
        "intermediate_size": hidden(settings),
        "hidden_act": activation(settings),
        "max_position_embeddings": settings["max_tokens"],
        "layer_norm_eps": settings["trunk.norm_eps"],
        "is_decoder": False,
        "position_embedding_type": "absolute",
    }
    more = {
        "type_vocab_size": settings["token_types"] or 2,
        "hidden_dropout_prob": settings["dropout"],
        "attention_probs_dropout_prob": settings["trunk.attention_dropout"],
    }
    lines = unlike(settings, "BERT", needed) + even_heads(settings, "BERT")
    return Described("bert", "BERT", config, lines, more)


def modernbert(settings: Settings) -> Described:
    """``ModernBertModel`` (Warner et al. 2024); biases and the gate's function are settings there as well."""
    needed = {
        "norm": "pre", "positions": "rotary", "causal": False, "token_types": 0,
        "trunk.activation": ("geglu", "swiglu"), "trunk.norm_kind": "layer", "trunk.input_norm": True,
        "trunk.first_norm": False, "trunk.final_norm": True,
    }  # fmt: skip
    window, every = settings["trunk.window"], settings["trunk.global_every"]
    local = [bool(window) and number % every != 0 for number in range(settings["depth"])]
    bases = {"full_attention": settings["trunk.rotary_base"], "sliding_attention": settings["trunk.local_rotary_base"]}
    config = {
        "vocab_size": settings["vocab_size"],
        "hidden_size": settings["width"],
        "num_hidden_layers": settings["depth"],
        "num_attention_heads": settings["heads"],
        "intermediate_size": hidden(settings),
        "hidden_activation": activation(settings),
        "norm_eps": settings["trunk.norm_eps"],
        "norm_bias": settings["trunk.norm_bias"],
        "attention_bias": settings["trunk.attention_bias"],
        "mlp_bias": settings["trunk.mlp_bias"],
        "local_attention": 2 * (window or 64),
        "layer_types": ["sliding_attention" if one else "full_attention" for one in local],
        "rope_parameters": {name: {"rope_type": "default", "rope_theta": base} for name, base in bases.items()},
    }
    more = {
        "max_position_embeddings": 8192,
        "attention_dropout": settings["trunk.attention_dropout"],
        "embedding_dropout": settings["trunk.input_dropout"],
        "mlp_dropout": settings["trunk.mlp_dropout"],
    }
    lines = unlike(settings, "ModernBERT", needed) + even_heads(settings, "ModernBERT")
    return Described("modernbert", "ModernBERT", config, lines, more)


def modernbert_now(config: Mapping[str, Any]) -> dict[str, Any]:
    """A ``config.json`` of ModernBERT with the keys of today's ``transformers``.

    Files of versions 4, the published ones among them, say which layers see everything, and how positions turn, by
    others; what they leave out is as published.

    Raises:
        InputError: a number of layers is none.
    """
    given = {key: value for key, value in config.items() if value is not None}
    depth, every = (given.get(k, n) for k, n in (("num_hidden_layers", 22), ("global_attn_every_n_layers", 3)))
    if not isinstance(depth, int) or not isinstance(every, int) or every < 1:
        raise InputError(
            f"config.json: num_hidden_layers={depth!r} or global_attn_every_n_layers={every!r} is no number"
        )
    wide = given.get("global_rope_theta", 160000.0)
    near = given.get("local_rope_theta", wide if "local_rope_theta" in config else 10000.0)
    bases = {"full_attention": wide, "sliding_attention": near}
    older = {
        "layer_types": ["sliding_attention" if number % every else "full_attention" for number in range(depth)],
        "rope_parameters": {name: {"rope_type": "default", "rope_theta": base} for name, base in bases.items()},
    }
    return older | given


def gpt2(settings: Settings) -> Described:
    """``GPT2Model`` (Radford et al. 2019). Missing biases are written as zeros."""
    needed = _PLAIN | _UNGATED | {
        "norm": "pre", "positions": "learned", "causal": True, "token_types": 0, "trunk.input_norm": False,
        "trunk.final_norm": True,
    }  # fmt: skip
    config = {
        "vocab_size": settings["vocab_size"],
        "n_embd": settings["width"],
        "n_layer": settings["depth"],
        "n_head": settings["heads"],
        "n_inner": hidden(settings),
        "n_positions": settings["max_tokens"],
        "activation_function": activation(settings),
        "layer_norm_epsilon": settings["trunk.norm_eps"],
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
    }
    more = {
        "resid_pdrop": settings["dropout"],
        "embd_pdrop": settings["trunk.input_dropout"],
        "attn_pdrop": settings["trunk.attention_dropout"],
    }
    lines = unlike(settings, "GPT-2", needed) + even_heads(settings, "GPT-2")
    return Described("gpt2", "GPT-2", config, lines, more)


def clip_text(settings: Settings) -> Described:
    """``CLIPTextModel`` (Radford et al. 2021, section 2.4). Missing biases are written as zeros."""
    needed = _PLAIN | _UNGATED | {
        "norm": "pre", "positions": "learned", "causal": True, "pool": "last", "token_types": 0,
        "trunk.input_norm": False, "trunk.final_norm": True,
    }  # fmt: skip
    published = "CLIP's text tower"
    config = {
        "vocab_size": settings["vocab_size"],
        "hidden_size": settings["width"],
        "num_hidden_layers": settings["depth"],
        "num_attention_heads": settings["heads"],
        "intermediate_size": hidden(settings),
        "max_position_embeddings": settings["max_tokens"],
        "hidden_act": activation(settings),
        "layer_norm_eps": settings["trunk.norm_eps"],
    }
    more = {"attention_dropout": settings["trunk.attention_dropout"]}
    lines = unlike(settings, published, needed) + even_heads(settings, published)
    return Described("clip_text", published, config, lines, more)

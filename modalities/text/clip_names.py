"""Names of the text encoder's weights in the text tower of ``transformers``' CLIP (see modalities/hf_names.py)."""

from __future__ import annotations

from modalities.hf_names import Parts, Table, blocks, plain, under

_BLOCK: Parts = {
    "attention_norm": "layer_norm1",
    "attention_in": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention_out": "self_attn.out_proj",
    "mlp_norm": "layer_norm2",
    "mlp_in": "mlp.fc1",
    "mlp_out": "mlp.fc2",
}


def clip_text(depth: int, embed_dim: int | None = None) -> Table:
    """``CLIPModel`` (its names begin with ``text_model.``) <- a causal encoder with learned positions, pool ``last``.

    Args:
        depth: of the encoder.
        embed_dim: of the joint space, whose projection is ``text_projection``; None: it has none.
    """
    table = [
        *plain("token_embedding", "embeddings.token_embedding", bias=False),
        *plain("position_embedding", "embeddings.position_embedding", bias=False),
        *blocks(depth, lambda number: f"encoder.layers.{number}", _BLOCK),
        *plain("trunk.norm", "final_layer_norm"),
    ]
    table = under("text_model.", table)
    return table if embed_dim is None else table + plain(f"projections.{embed_dim}", "text_projection", bias=False)

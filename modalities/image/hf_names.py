"""Names of the image encoder's weights in ``transformers``: CLIP's tower and ViT (see modalities/hf_names.py)."""

from __future__ import annotations

from modalities.hf_names import Name, Parts, Table, blocks, plain, under

_CLIP_BLOCK: Parts = {
    "attention_norm": "layer_norm1",
    "attention_in": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention_out": "self_attn.out_proj",
    "mlp_norm": "layer_norm2",
    "mlp_in": "mlp.fc1",
    "mlp_out": "mlp.fc2",
}
_VIT_BLOCK: Parts = {
    "attention_norm": "layernorm_before",
    "attention_in": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    "attention_out": "attention.o_proj",
    "mlp_norm": "layernorm_after",
    "mlp_in": "mlp.fc1",
    "mlp_out": "mlp.fc2",
}


def clip_vision(depth: int, width: int, patch_size: int, embed_dim: int | None = None) -> Table:
    """``CLIPModel`` (its names begin with ``vision_model.``) <- an encoder with CLIP's settings.

    Args:
        depth: of the encoder.
        width: of the encoder.
        patch_size: of the encoder.
        embed_dim: of the joint space, whose projection is ``visual_projection``; None: it has none.
    """
    table = [
        Name("class_token", ("embeddings.class_embedding",)),
        Name("positions", ("embeddings.position_embedding.weight",)),
        Name("patch_embedding.weight", ("embeddings.patch_embedding.weight",), *_patches(width, patch_size)),
        *plain("trunk.input_norm", "pre_layrnorm"),
        *blocks(depth, lambda number: f"encoder.layers.{number}", _CLIP_BLOCK),
        *plain("pooled_norm", "post_layernorm"),
    ]
    table = under("vision_model.", table)
    return table if embed_dim is None else table + plain(f"projections.{embed_dim}", "visual_projection", bias=False)


def vit(depth: int, width: int, patch_size: int, prefix: str = "") -> Table:
    """``ViTModel`` without its pooler <- an encoder with a class token and a norm behind the trunk.

    Args:
        depth: of the encoder.
        width: of the encoder.
        patch_size: of the encoder.
        prefix: in front of their names, ``vit.`` in models with a head.
    """
    table = [
        Name("class_token", ("embeddings.cls_token",), (width,), (1, 1, width)),
        Name("positions", ("embeddings.position_embeddings",), (-1, width), (1, -1, width)),
        Name(
            "patch_embedding.weight", ("embeddings.patch_embeddings.projection.weight",), *_patches(width, patch_size)
        ),
        Name("patch_embedding.bias", ("embeddings.patch_embeddings.projection.bias",)),
        *blocks(depth, lambda number: f"layers.{number}", _VIT_BLOCK),
        *plain("trunk.norm", "layernorm"),
    ]
    return under(prefix, table)


def _patches(width: int, side: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A patch is a row of numbers here, a kernel there."""
    return (width, 3 * side * side), (width, 3, side, side)

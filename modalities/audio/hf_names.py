"""Names of audio weights in ``transformers``' wav2vec 2.0 (see modalities/hf_names.py)."""

from __future__ import annotations

from modalities.hf_names import Name, Parts, Table, blocks, plain, under

_BLOCK: Parts = {
    "attention_norm": "layer_norm",
    "attention_in": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    "attention_out": "attention.out_proj",
    "mlp_norm": "final_layer_norm",
    "mlp_in": "feed_forward.intermediate_dense",
    "mlp_out": "feed_forward.output_dense",
}


def wav2vec2(depth: int, convs: int = 7, frontend_norm: str = "layer", frontend_bias: bool = True) -> Table:
    """``Wav2Vec2Model`` <- an encoder with convolutional positions.

    Args:
        depth: of the trunk.
        convs: number of convolutions of the front end.
        frontend_norm: of the encoder. ``group`` goes with a norm in front of the trunk, ``layer`` with one behind it,
            as published.
        frontend_bias: of the encoder.
    """
    table: Table = []
    for number in range(convs):
        theirs = f"feature_extractor.conv_layers.{number}"
        normed = frontend_norm == "layer" or number == 0
        has_bias = frontend_bias and (frontend_norm == "layer" or number > 0)
        table += plain(f"frontend.convs.{number}", f"{theirs}.conv", bias=has_bias)
        table += plain(f"frontend.norms.{number}", f"{theirs}.layer_norm") if normed else []
    weight = "encoder.pos_conv_embed.conv.parametrizations.weight"
    return [
        *table,
        *plain("feature_norm", "feature_projection.layer_norm"),
        *plain("feature_projection", "feature_projection.projection"),
        Name("mask_embedding", ("masked_spec_embed",)),
        Name("positions.gain", (f"{weight}.original0",)),
        Name("positions.direction", (f"{weight}.original1",)),
        Name("positions.bias", ("encoder.pos_conv_embed.conv.bias",)),
        *plain("trunk.input_norm" if frontend_norm == "group" else "trunk.norm", "encoder.layer_norm"),
        *blocks(depth, lambda number: f"encoder.layers.{number}", _BLOCK),
    ]


def wav2vec2_pretraining(encoder: Table, latent_groups: int, latent_vars: int, latent_dim: int) -> tuple[Table, Table]:
    """``Wav2Vec2ForPreTraining``: the ``encoder``'s table (:func:`wav2vec2`) with its prefix, and the objective's.

    Args:
        encoder: the encoder's table.
        latent_groups: of the objective's quantizer.
        latent_vars: of the objective's quantizer.
        latent_dim: of the objective's quantizer.
    """
    each = latent_dim // latent_groups
    objective = [
        *plain("quantizer.choose", "quantizer.weight_proj"),
        Name(
            "quantizer.codebook",
            ("quantizer.codevectors",),
            (latent_groups, latent_vars, each),
            (1, latent_groups * latent_vars, each),
        ),
        *plain("project_hid", "project_hid"),
        *plain("project_q", "project_q"),
    ]
    return under("wav2vec2.", encoder), objective

"""An audio encoder as wav2vec 2.0: alone, or with the quantizer and the projections of its objective."""

from __future__ import annotations

from typing import Any

import torch

from modalities.audio.encoder import AudioEncoder
from modalities.audio.wav2vec2 import Wav2Vec2
from modalities.hf_config import Described, Settings
from pretrain.export import probes
from pretrain.export.plan import Pair, Plan
from pretrain.export.weights import outgoing


def plan(
    encoder: AudioEncoder, settings: Settings, described: Described, objective: Wav2Vec2 | None, rate: int
) -> Plan:
    """``Wav2Vec2Model``, or ``Wav2Vec2ForPreTraining`` of encoder and objective.

    Args:
        encoder: with the weights to be written.
        settings: its settings.
        described: the family that fits them.
        objective: with the weights to be written; None: the encoder alone.
        rate: samples a second of the recordings it was trained on.
    """
    architecture = "Wav2Vec2Model" if objective is None else "Wav2Vec2ForPreTraining"
    config = {"architectures": [architecture], "model_type": "wav2vec2", **described.config, **described.more}
    config |= {"dtype": "float32"}
    if objective is not None:
        quantizer = objective.quantizer
        config |= {
            "num_codevector_groups": quantizer.groups,
            "num_codevectors_per_group": quantizer.size,
            "codevector_dim": quantizer.codebook.shape[0] * quantizer.codebook.shape[2],
            "proj_codevector_dim": objective.project_q.out_features,
            "contrastive_logits_temperature": objective.logit_temp,
            "diversity_loss_weight": objective.diversity_weight,
            "feat_quantizer_dropout": objective.feature_dropout,
        }
    state = {n: t for n, t in encoder.state_dict().items() if not n.startswith("projections.")}
    weights = outgoing("wav2vec2", settings, state, None if objective is None else objective.state_dict())
    # A norm over a clip's frames takes zeros behind the clip's end for sound: such models are not given a mask
    # (transformers, Wav2Vec2FeatureExtractor).
    processor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1, "sampling_rate": rate, "padding_value": 0.0, "padding_side": "right", "do_normalize": True,
        "return_attention_mask": settings["frontend_norm"] == "layer",
    }  # fmt: skip

    def probe(theirs: Any) -> list[Pair]:
        return _pairs(encoder, settings, objective, theirs)

    files = {"preprocessor_config.json": processor}
    return Plan(architecture, config, weights, probe, files, processor="Wav2Vec2FeatureExtractor")


@torch.no_grad()
def _pairs(encoder: AudioEncoder, settings: Settings, objective: Wav2Vec2 | None, theirs: Any) -> list[Pair]:
    inputs, clips = probes.sounds(encoder, list(settings["kernels"]), list(settings["strides"]))
    if objective is None:
        found = torch.cat([theirs(clip[None]).last_hidden_state[0] for clip in clips])
        return [Pair("last_hidden_state", encoder(inputs).tokens, found)]
    # Every third frame is hidden, the first one not.
    places = [torch.arange(1, length, 3) for length in inputs["layout"].lengths]
    begins = inputs["layout"].offsets.tolist()
    masked = torch.cat([place + begin for place, begin in zip(places, begins, strict=False)])
    frames = encoder.features(inputs)
    hidden = objective.project_hid(encoder.contextualise(frames, inputs | {"masked": masked}).tokens)
    targets = objective.project_q(objective.quantizer(objective.quantizer.logits(frames.normed), 1.0, masked).vectors)
    outs = []
    for clip, place, length in zip(clips, places, inputs["layout"].lengths, strict=True):
        mask = torch.zeros(1, length, dtype=torch.bool)
        mask[0, place] = True
        outs.append(theirs(clip[None], mask_time_indices=mask))
    return [
        Pair("projected_states", hidden, torch.cat([out.projected_states[0] for out in outs])),
        Pair("projected_quantized_states", targets, torch.cat([out.projected_quantized_states[0] for out in outs])),
    ]

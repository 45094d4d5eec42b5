"""wav2vec 2.0, base and large: features, codes, loss and gradients equal those of ``transformers``, and the loss that
of a plain reference after fairseq, for the same random weights, masks, negatives and noise."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from modalities.audio.encoder import AudioEncoder
from modalities.audio.hf_names import wav2vec2, wav2vec2_pretraining
from modalities.audio.masking import others, spans
from modalities.audio.positions import transforms
from modalities.audio.prepare import AudioPrepare
from modalities.audio.wav2vec2 import Wav2Vec2
from modalities.counter import fold, uniform
from modalities.hf_names import to_ours, to_theirs
from modalities.layout import Layout
from modalities.objective import Step
from tests.modalities.parity.fairseq import fairseq_loss
from tests.modalities.parity.numbers import gradients, randomise, same

transformers = pytest.importorskip("transformers")

CHANNELS, WIDTH, DEPTH, HEADS, GROUPS, CODES, LATENT, FINAL, NEGATIVES = 24, 32, 3, 4, 2, 40, 16, 12, 7
SAMPLES = [16000, 9601, 5043]
STEP = 3


@pytest.fixture(params=["base", "large"])
def size(request):
    return request.param


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def dtype(request):
    return request.param


@pytest.fixture
def theirs(size, dtype):
    large = size == "large"
    config = transformers.Wav2Vec2Config(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=4 * WIDTH,
        conv_dim=(CHANNELS,) * 7, feat_extract_norm="layer" if large else "group", conv_bias=large,
        do_stable_layer_norm=large, num_conv_pos_embeddings=128, num_conv_pos_embedding_groups=4,
        num_codevectors_per_group=CODES, num_codevector_groups=GROUPS, codevector_dim=LATENT,
        proj_codevector_dim=FINAL, hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
        feat_proj_dropout=0.0, feat_quantizer_dropout=0.0, layerdrop=0.0, mask_feature_prob=0.0,
    )  # fmt: skip
    model = transformers.Wav2Vec2ForPreTraining(config)
    randomise(model)
    torch.nn.init.normal_(model.quantizer.weight_proj.weight, generator=torch.manual_seed(0))  # all codes in use
    return model.to(dtype)


@pytest.fixture
def ours(theirs, size, dtype):
    settings = {"frontend_norm": "group", "frontend_bias": False, "norm": "post", "trunk": {"input_norm": True}}
    encoder = AudioEncoder(
        CHANNELS, WIDTH, DEPTH, HEADS, positions="convolutional", position_groups=4,
        **(settings if size == "base" else {}),
    ).to(dtype)  # fmt: skip
    objective = Wav2Vec2(CHANNELS, WIDTH, GROUPS, CODES, LATENT, final_dim=FINAL).to(dtype)
    if encoder.positions is not None and dtype == torch.float64:
        exact(encoder.positions)
    for model, table in zip((encoder, objective), tables(size), strict=True):
        model.load_state_dict(to_ours(table, theirs.state_dict()))
    return encoder, objective


def exact(positions):
    """The transforms in float64; a module that is moved keeps those of float32."""
    torch.set_default_dtype(torch.float64)
    positions.analysis, positions.synthesis = transforms(positions.window, positions.window - positions.kernel + 1)
    torch.set_default_dtype(torch.float32)


def tables(size):
    base = size == "base"
    encoder = wav2vec2(DEPTH, 7, "group" if base else "layer", not base)
    return wav2vec2_pretraining(encoder, GROUPS, CODES, LATENT)


@pytest.fixture
def batch(dtype):
    """Three clips with masks and negatives, which are drawn once."""
    items = []
    for number, samples in enumerate(SAMPLES):
        rng = np.random.default_rng(number)
        wave = rng.standard_normal(samples).cumsum() * 0.1  # low frequencies dominate, as in speech
        wave = ((wave - wave.mean()) / wave.std()).astype(np.float32)
        masked = np.flatnonzero(spans(AudioPrepare().frames(samples), 0.65, 5, rng))
        items.append({"wave": wave, "masked": masked, "negatives": others(len(masked), NEGATIVES, rng)})
    audio = AudioPrepare().collate(items)
    masks = Layout([len(item["masked"]) for item in items])
    begins = zip(items, audio["layout"].offsets.tolist(), masks.offsets.tolist(), strict=False)
    masked, negatives = zip(
        *((torch.tensor(i["masked"]) + frame, torch.tensor(i["negatives"]) + m) for i, frame, m in begins), strict=True
    )
    audio |= {"masked": torch.cat(masked), "negatives": torch.cat(negatives), "masks": masks}
    audio |= {"noise": torch.arange(3), "wave": audio["wave"].to(dtype)}
    return {"audio": audio, "size": 3}, items


def clips(items, dtype):
    """Their inputs, a clip at a time: (waveform, mask, negatives as places in the clip)."""
    for item in items:
        frames = AudioPrepare().frames(len(item["wave"]))
        mask = torch.zeros(1, frames, dtype=torch.bool)
        mask[0, item["masked"]] = True
        negatives = torch.zeros(1, frames, NEGATIVES, dtype=torch.int64)
        negatives[0, item["masked"]] = torch.tensor(item["masked"][item["negatives"]])
        yield torch.from_numpy(item["wave"]).to(dtype)[None], mask, negatives


@pytest.fixture
def same_noise(monkeypatch, batch):
    """Their Gumbel softmax with our noise, in the order of the clips, where frames are masked."""
    audio = batch[0]["audio"]
    seeds = fold(audio["noise"][audio["masks"].sequence], audio["layout"].position[audio["masked"]])
    noise = -torch.log(-torch.log(uniform(seeds, GROUPS * CODES)))
    left = list(zip(noise.split(audio["masks"].lengths), audio["layout"].lengths, batch[1], strict=True))

    def gumbel_softmax(logits, tau, hard):
        own, frames, item = left.pop(0)
        whole = logits.new_zeros(frames, GROUPS * CODES)
        whole[item["masked"]] = own.to(logits.dtype)
        soft = ((logits + whole.view_as(logits)) / tau).softmax(-1)
        return F.one_hot(soft.argmax(-1), CODES) + (soft - soft.detach())

    monkeypatch.setattr(torch.nn.functional, "gumbel_softmax", gumbel_softmax)


def test_encoder_equals_transformers_clip_by_clip(theirs, ours, batch, dtype):
    audio, items = batch
    encoder, _ = ours
    frames = encoder.features(audio["audio"])
    tokens = encoder(audio["audio"]).tokens
    lengths = audio["audio"]["layout"].lengths
    parts = zip(clips(items, dtype), *(x.split(lengths) for x in (*frames, tokens)), strict=True)
    for (wave, mask, _), raw, normed, found in parts:
        expected = theirs.wav2vec2(wave, mask_time_indices=mask)
        features = theirs.wav2vec2.feature_extractor(wave)[0].t()
        same({"raw": raw, "normed": normed}, {"raw": features, "normed": expected.extract_features[0]})
        same({"tokens": found}, {"tokens": expected.last_hidden_state[0]})


def test_quantizer_and_loss_equal_transformers_in_evaluation(theirs, ours, batch, dtype):
    audio, items = batch
    encoder, objective = (model.eval() for model in ours)
    frames = encoder.features(audio["audio"])
    logits = objective.quantizer.logits(frames.normed[audio["audio"]["masked"]])
    found = objective.quantizer(logits, 1.0, None).vectors.split(audio["audio"]["masks"].lengths)
    total = 0
    for (wave, mask, negatives), mine in zip(clips(items, dtype), found, strict=True):
        output = theirs.eval()(wave, mask_time_indices=mask, sampled_negative_indices=negatives)
        features = theirs.wav2vec2(wave, mask_time_indices=mask).extract_features
        expected = theirs.quantizer(features, mask)[0][mask]
        same({"vectors": mine}, {"vectors": expected})
        total += output.contrastive_loss.item()
    metrics = objective.measure({"audio": encoder}, [audio], Step())
    count = len(audio["audio"]["masked"])
    assert metrics["contrastive_loss"]["value"] == pytest.approx(total / count, rel=1e-5)


@pytest.mark.usefixtures("same_noise")
def test_loss_and_gradients_equal_transformers(theirs, ours, batch, size, dtype):
    # Without diversity: theirs is of each clip alone. The reference below has it.
    audio, items = batch
    encoder, objective = (model.train() for model in ours)
    objective.diversity_weight = 0.0
    theirs.train().config.diversity_loss_weight = 0.0
    theirs.set_gumbel_temperature(objective.quantizer.temperature(STEP))
    count = len(audio["audio"]["masked"])
    total = 0.0
    for wave, mask, negatives in clips(items, dtype):
        loss = theirs(wave, mask_time_indices=mask, sampled_negative_indices=negatives).loss / count
        loss.backward()
        total += loss.item()
    metrics = objective.step({"audio": encoder}, [audio], Step(STEP), 1.0)
    assert metrics["loss"].item() == pytest.approx(total, rel=1e-5)
    compare(ours, theirs, size, dtype)


@pytest.mark.usefixtures("same_noise")
def test_loss_of_one_clip_with_diversity_equals_transformers(theirs, ours, batch, dtype):
    audio, items = batch
    encoder, objective = (model.train() for model in ours)
    theirs.train().set_gumbel_temperature(objective.quantizer.temperature(STEP))
    wave, mask, negatives = next(iter(clips(items, dtype)))
    expected = theirs(wave, mask_time_indices=mask, sampled_negative_indices=negatives).loss / mask.sum()
    metrics = objective.step({"audio": encoder}, [first(audio["audio"])], Step(STEP), 1.0)
    assert metrics["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def first(audio):
    """The batch of the first clip alone."""
    frames, masked = audio["layout"].lengths[0], audio["masks"].lengths[0]
    wave = audio["wave"][: SAMPLES[0] + -SAMPLES[0] % 320]
    own = {"wave": wave, "samples": SAMPLES[:1], "layout": Layout([frames]), "rows": audio["rows"][:frames], "size": 1}
    own |= {"masked": audio["masked"][:masked], "negatives": audio["negatives"][:masked]}
    return {"audio": own | {"masks": Layout([masked]), "noise": audio["noise"][:1]}, "size": 1}


@pytest.mark.usefixtures("same_noise")
@pytest.mark.parametrize("penalty", [0.0, 10.0])
def test_loss_and_gradients_equal_fairseq(theirs, ours, batch, size, dtype, penalty):
    audio, items = batch
    encoder, objective = (model.train() for model in ours)
    objective.feature_penalty = penalty
    theirs.train().set_gumbel_temperature(objective.quantizer.temperature(STEP))
    expected = fairseq_loss(theirs, list(clips(items, dtype)), [0.1, penalty])
    expected.backward()
    metrics = objective.step({"audio": encoder}, [audio], Step(STEP), 1.0)
    assert metrics["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    compare(ours, theirs, size, dtype)


def compare(ours, theirs, size, dtype):
    found = {}
    for model, table in zip(ours, tables(size), strict=True):
        found |= to_theirs(table, gradients(model))
    # Both sides normalise predictions and targets in float32 at least; in float64 only transformers rounds to it.
    same(found, gradients(theirs), 1e-5 if dtype == torch.float32 else 1e-6)


def test_weights_come_back(theirs, ours, size):
    state = {}
    for model, table in zip(ours, tables(size), strict=True):
        state |= to_theirs(table, model.state_dict())
    expected = theirs.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())

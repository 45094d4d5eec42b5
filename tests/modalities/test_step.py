"""Invariant 3: the loss and the gradients of a step do not depend on how its batch is divided."""

import pytest
import torch

from data.loading.loader import StepLoader, TaskData
from data.stream import Stream
from modalities.audio.encoder import AudioEncoder
from modalities.audio.prepare import AudioPrepare
from modalities.contrastive import Contrastive
from modalities.image.encoder import ImageEncoder
from modalities.image.prepare import ImagePrepare
from modalities.objective import Step
from modalities.prepare import Sides
from modalities.text.causal_lm import CausalLM, CausalText
from modalities.text.encoder import TextEncoder
from modalities.text.masked_lm import MaskedLM, MaskedText
from modalities.text.prepare import TextPrepare

KINDS = ("masked_lm", "causal_lm", "image_text", "audio_text")


def build(kind, tokenizer_path, vocab_size):
    """(encoders, objective, prepare) with equal weights at every call."""
    torch.manual_seed(0)
    text = TextEncoder(vocab_size, 32, 2, 4, causal=kind == "causal_lm")
    if kind == "masked_lm":
        return {"text": text}, MaskedLM(32, vocab_size), MaskedText(tokenizer_path, 24)
    if kind == "causal_lm":
        return {"text": text}, CausalLM(vocab_size), CausalText(tokenizer_path, 24)
    other, side = {
        "image_text": (ImageEncoder(16, 4, 32, 2, 4), ImagePrepare(16)),
        "audio_text": (AudioEncoder(16, 32, 1, 4), AudioPrepare()),
    }[kind]
    encoders = {"a": other, "b": text}
    objective = Contrastive(16)
    objective.connect(encoders)
    return encoders, objective, Sides(a=side, b=TextPrepare(tokenizer_path, 24))


def one_step(kind, source, micro, tokenizer_path, vocab_size):
    encoders, objective, prepare = build(kind, tokenizer_path, vocab_size)
    batches = next(iter(StepLoader({"t": TaskData(Stream("t", source, 0), prepare, 8, micro)}, 0, 1))).tasks["t"]
    metrics = objective.step(encoders, batches, Step(), 0.7)
    modules = [*encoders.values(), objective]
    named = {f"{n}.{name}": p.grad for n, m in enumerate(modules) for name, p in m.named_parameters()}
    return {name: float(value) for name, value in metrics.items()}, named, len(batches)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_half_quarter_and_uneven_micro_batches_are_equal(shards, kind, tokenizer_path, vocab_size):
    source = shards(count=9, members=("txt", "png", "wav"), max_bytes=10**7)
    metrics, whole, _ = one_step(kind, source, None, tokenizer_path, vocab_size)
    norm = torch.cat([g.flatten() for g in whole.values() if g is not None]).double().norm()
    assert norm > 1e-3
    for micro, number in ((4, 2), (2, 4), (3, 3), (1, 8)):
        found, grads, batches = one_step(kind, source, micro, tokenizer_path, vocab_size)
        assert batches == number
        for name, value in metrics.items():
            assert found[name] == pytest.approx(value, rel=1e-6), (micro, name)
        assert [name for name, g in grads.items() if g is None] == [name for name, g in whole.items() if g is None]
        for name, grad in grads.items():
            if grad is not None:
                assert (grad.double() - whole[name].double()).norm() < 1e-6 * norm, (micro, name)


@pytest.mark.parametrize("kind", KINDS)
def test_every_trained_parameter_gets_a_gradient(shards, kind, tokenizer_path, vocab_size):
    source = shards(count=9, members=("txt", "png", "wav"), max_bytes=10**7)
    _, grads, _ = one_step(kind, source, 4, tokenizer_path, vocab_size)
    without = {name for name, g in grads.items() if g is None or not g.abs().sum()}
    assert without <= {"0.mask_embedding"}  # of the audio encoder: nothing is masked in contrastive learning

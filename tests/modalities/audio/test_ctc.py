import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from data.errors import InputError, SampleError
from data.sample import Sample
from modalities.audio import ctc as module
from modalities.audio.ctc import CTC, Transcribed, ctc, edits
from modalities.audio.encoder import AudioEncoder
from modalities.audio.prepare import AudioPrepare
from modalities.layout import Layout
from modalities.objective import Step
from modalities.text.prepare import TextPrepare
from tests.conftest import wav

LETTERS = [" ", "a", "b", "c"]
RNG = np.random.default_rng(0)


def prepare(**options):
    return Transcribed(AudioPrepare(max_seconds=1.0), labels=LETTERS, **options)


def sample(number, text, samples=6000):
    return Sample("own-000000.tar", str(number), {"wav": wav(number, samples), "txt": text.encode()})


def test_the_loss_is_torchs_of_each_clip_by_itself():
    torch.manual_seed(0)
    frames, texts = [9, 4, 6], [[1, 2, 2], [3], [4, 4, 1]]
    logits = torch.randn(sum(frames), 5, requires_grad=True)
    flat = torch.tensor([number for text in texts for number in text])
    found = ctc(logits, Layout(frames), flat, [len(text) for text in texts])
    (grad,) = torch.autograd.grad(found, logits)
    alone = [
        F.ctc_loss(rows.log_softmax(1)[:, None], torch.tensor([text]), [len(rows)], [len(text)], reduction="sum")
        for rows, text in zip(logits.split(frames), texts, strict=True)
    ]
    torch.testing.assert_close(found, sum(alone))
    torch.testing.assert_close(grad, torch.autograd.grad(sum(alone), logits)[0])


CUDA, CPU = torch.device("cuda", 1), torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "deterministic", "place"),
    [(CUDA, True, CPU), (CUDA, False, CUDA), (CPU, True, CPU), (CPU, False, CPU)],
)
def test_what_torch_refuses_on_cuda_the_host_computes(device, deterministic, place):
    assert module._place(device, deterministic) == place


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_it_trains_deterministically():
    torch.manual_seed(0)
    logits, labels, frames, found = torch.randn(15, 5), torch.tensor([1, 2, 2, 3]), [9, 6], {}
    torch.use_deterministic_algorithms(True)
    try:
        for device in ("cpu", "cuda"):
            there = logits.to(device).requires_grad_()
            loss = ctc(there, Layout(frames, device), labels.to(device), [3, 1])
            found[device] = (loss.detach(), *torch.autograd.grad(loss, there))
    finally:
        torch.use_deterministic_algorithms(False)
    for one, other in zip(found["cpu"], found["cuda"], strict=True):
        assert other.device.type == "cuda"
        torch.testing.assert_close(one, other.cpu())


def test_prepare_gives_characters_from_one_on():
    made = prepare().collate([prepare()(sample(n, text), RNG, True) for n, text in enumerate(["Ab  c", "a"])])
    assert made["labels"].tolist() == [2, 3, 1, 4, 2]
    assert made["lengths"] == [4, 1]
    assert Transcribed.learn(["ba", "A c"]) == [" ", "a", "b", "c"]
    assert Transcribed.learn(["A"], lower=False) == ["A"]


@pytest.mark.parametrize(
    ("text", "samples", "kind", "message"),
    [
        ("ad", 6000, "unknown_label", "label 'd' is none of the 4"),
        ("aab" * 6, 4400, "too_short", r"13 frames for a text that needs 24"),
        ("a", 16000, "too_long", "recording of max_seconds=1 or more"),
        ("  ", 6000, "empty", "member txt is empty"),
    ],
)
def test_what_cannot_be_learned_is_a_reason_of_the_sample(text, samples, kind, message):
    with pytest.raises(SampleError, match=message) as caught:
        prepare()(sample(0, text, samples), RNG, True)
    assert caught.value.kind == kind


def test_wrong_settings(tokenizer_path):
    with pytest.raises(InputError, match="labels has 'ab', which is not one character"):
        Transcribed(AudioPrepare(), labels=["ab"])
    with pytest.raises(InputError, match="input is a TextPrepare, not what prepares sound"):
        Transcribed(TextPrepare(tokenizer_path, 9), labels=["a"])
    with pytest.raises(InputError, match=r"dropout=1.0 is not"):
        CTC(16, LETTERS, dropout=1.0)


def test_reading_drops_repeats_and_blanks():
    objective = CTC(4, LETTERS)
    logits = F.one_hot(torch.tensor([0, 2, 2, 0, 2, 3, 4, 0]), 5).float()
    assert objective.read(logits, Layout([6, 2])) == ["aab", "c"]


@pytest.mark.parametrize(
    ("one", "other", "count"), [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("ab", "ba", 2)]
)
def test_edits(one, other, count):
    assert edits(one, other) == count


def test_held_out_error_rates_are_summed_over_batches():
    torch.manual_seed(0)
    encoder, objective = AudioEncoder(8, 16, 1, 2), CTC(16, LETTERS)
    nn_bias = torch.tensor([0.0, 0.0, 9.0, 0.0, 0.0])  # whatever it hears, it reads one a
    objective.head.bias.data += nn_bias
    objective.eval()
    made = [prepare().collate([prepare()(sample(n, text), RNG, False)]) for n, text in enumerate(["a", "ab c", "bb"])]
    found = objective.measure({"input": encoder}, made, Step())
    assert found["cer"] == {"value": (0 + 3 + 2) / 7, "chance": 1.0}
    assert found["wer"] == {"value": (0 + 2 + 1) / 4, "chance": 1.0}


def test_micro_batches_give_the_gradient_of_the_whole():
    found = []
    for cuts in ([0, 3], [0, 1, 3]):
        torch.manual_seed(0)
        encoder, objective = AudioEncoder(8, 16, 1, 2), CTC(16, LETTERS)
        items = [prepare()(sample(n, t, 5000 + 800 * n), RNG, False) for n, t in enumerate(["a", "ab c", "bb"])]
        batches = [prepare().collate(items[a:b]) for a, b in itertools.pairwise(cuts)]
        metrics = objective.step({"input": encoder}, batches, Step(), 1.0)
        found.append((metrics["loss"], [p.grad for p in (*encoder.parameters(), *objective.parameters())]))
    torch.testing.assert_close(found[0], found[1])


def test_a_step_can_be_planned_on_tensors_without_contents():
    with FakeTensorMode(allow_non_fake_inputs=True):
        logits = torch.zeros(7, 5, requires_grad=True)
        loss = ctc(logits, Layout([3, 4]), torch.tensor([1, 2]), [1, 1])
        loss.backward()
        assert loss.shape == ()
        assert logits.grad.shape == (7, 5)

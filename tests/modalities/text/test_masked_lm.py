import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data.errors import InputError, SampleError
from data.sample import Sample
from data.seeds import generator
from modalities.objective import Step
from modalities.text.encoder import TextEncoder
from modalities.text.masked_lm import MaskedLM, MaskedText
from modalities.text.tokenizer import END, MASK, START


def text(words):
    return Sample("s.tar", "k", {"txt": words.encode()})


@pytest.fixture
def masked_text(tokenizer_path):
    return MaskedText(tokenizer_path, max_tokens=200)


@pytest.fixture
def model(vocab_size):
    torch.manual_seed(0)
    encoder, objective = TextEncoder(vocab_size, 16, 1, 4), MaskedLM(16, vocab_size)
    with torch.no_grad():
        objective.bias += torch.randn(vocab_size)
    return {"text": encoder}, objective


def batch_of(prepare, texts):
    return prepare.collate([prepare(text(t), generator("batch", n), True) for n, t in enumerate(texts)])


def test_masking_statistics(masked_text):
    sample, places, kinds, drawn = text("red circle above the blue square " * 60), 0, np.zeros(3), []
    for number in range(400):
        rng = generator("statistics", number)
        original = masked_text.tokens(sample, generator("statistics", number), True)
        item = masked_text(sample, rng, True)
        assert item["tokens"][0] == masked_text.tokenizer.number(START)
        assert item["tokens"][-1] == masked_text.tokenizer.number(END)
        now, was = item["tokens"][item["masked"]], item["labels"]
        assert (original[item["masked"]] == was).all()
        rest = np.setdiff1d(np.arange(len(original)), item["masked"])
        assert (item["tokens"][rest] == original[rest]).all()
        assert item["masked"].min() >= 1
        assert item["masked"].max() <= len(original) - 2
        is_mask, same = now == masked_text.tokenizer.number(MASK), now == was
        kinds += [is_mask.sum(), (~is_mask & ~same).sum(), same.sum()]
        drawn += now[~is_mask & ~same].tolist()
        places += len(original) - 2
    chosen = kinds.sum()
    # Five standard errors of a binomial each.
    assert abs(chosen / places - 0.15) < 5 * (0.15 * 0.85 / places) ** 0.5
    for share, expected in zip(kinds / chosen, (0.8, 0.1, 0.1), strict=True):
        assert abs(share - expected) < 5 * (expected * (1 - expected) / chosen) ** 0.5 + 0.1 / 300 * 2
    assert len(set(drawn)) > 200  # random tokens come from the whole vocabulary


def test_masks_are_a_function_of_the_generator(masked_text):
    sample = text("two small stars left of one large green circle near the red square")
    items = [masked_text(sample, generator("task", n), True) for n in (1, 1, 2, 3)]
    for name in ("tokens", "masked", "labels"):
        assert (items[0][name] == items[1][name]).all()
    assert len({tuple(item["masked"]) for item in items}) > 1


def test_one_token_is_masked_at_least(tokenizer_path):
    prepare = MaskedText(tokenizer_path, 10, mlm_probability=1e-9)
    for number in range(20):
        item = prepare(text("red"), generator(number), True)
        assert len(item["masked"]) == 1
        assert 1 <= item["masked"][0] <= len(item["tokens"]) - 2


def test_long_text_gives_a_random_window_in_training_and_its_beginning_on_held_out_data(tokenizer_path):
    prepare = MaskedText(tokenizer_path, max_tokens=8)
    sample = text("one two three red green blue circle square star above below left near")
    everything = prepare.tokenizer.encode(sample.members["txt"].decode())
    windows = [prepare.tokens(sample, generator(n), True)[1:-1].tolist() for n in range(300)]
    possible = [everything[b : b + 6] for b in range(len(everything) - 5)]
    assert {tuple(w) for w in windows} == {tuple(p) for p in possible}
    assert prepare.tokens(sample, generator(7), False)[1:-1].tolist() == possible[0]


def test_head_at_masked_places_is_a_dense_head_read_there(masked_text, model):
    encoders, objective = model
    batch = batch_of(masked_text, ["a red circle", "the blue square above two small stars", "green"])
    loss, sums = objective(encoders, batch, Step(), {})
    inputs = batch["text"]
    assert objective.count(batch) == len(inputs["labels"]) == len(inputs["masked"])
    everywhere = encoders["text"](inputs).tokens
    logits = (
        objective.norm(F.gelu(objective.dense(everywhere))) @ encoders["text"].token_embedding.weight.T + objective.bias
    )
    expected, correct, begin = 0.0, 0, 0
    for n, item_length in enumerate(inputs["layout"].lengths):
        for row, label in zip(inputs["masked"].tolist(), inputs["labels"].tolist(), strict=True):
            if begin <= row < begin + item_length:
                expected += -float(logits[row].detach().log_softmax(-1)[label])
                correct += int(logits[row].argmax()) == label
        begin += item_length
        assert n < 3
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert int(sums["correct"]) == correct
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in objective.parameters())


def test_held_out_figures_and_their_chance(masked_text, model):
    encoders, objective = model
    objective.eval()
    encoders["text"].eval()
    batches = [batch_of(masked_text, ["a red circle", "the blue square"]), batch_of(masked_text, ["red " * 50])]
    found = objective.measure(encoders, batches, Step())
    labels = torch.cat([batch["text"]["labels"] for batch in batches])
    share = torch.bincount(labels).double() / len(labels)
    share = share[share > 0]
    assert found["loss"]["chance"] == pytest.approx(float(-(share * share.log()).sum()))
    assert found["masked_accuracy"]["chance"] == pytest.approx(float(share.max()))
    assert found["perplexity"]["value"] == pytest.approx(math.exp(found["loss"]["value"]))
    assert found["perplexity"]["chance"] == pytest.approx(math.exp(found["loss"]["chance"]))
    losses = [float(objective(encoders, batch, Step(), {})[0]) for batch in batches]
    assert found["loss"]["value"] == pytest.approx(sum(losses) / len(labels))


def test_it_learns_to_beat_chance(masked_text, vocab_size):
    torch.manual_seed(0)
    encoders, objective = {"text": TextEncoder(vocab_size, 32, 1, 4)}, MaskedLM(32, vocab_size)
    batch = batch_of(masked_text, ["one two three one two three one two three one two three"] * 8)
    parameters = [*encoders["text"].parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    for step in range(200):
        objective.step(encoders, [batch], Step(step), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    objective.eval()
    found = objective.measure(encoders, [batch], Step())
    assert found["masked_accuracy"]["value"] > 0.9 > found["masked_accuracy"]["chance"]


def test_unusable_texts_are_the_samples_fault(masked_text):
    for raw, reason in ((b"", "empty"), (b" \n", "empty"), (b"\xff", "not UTF-8")):
        with pytest.raises(SampleError, match=reason):
            masked_text(Sample("s", "k", {"txt": raw}), generator(0), True)
    with pytest.raises(SampleError, match=r"no text member \(txt\); it has: png"):
        masked_text(Sample("s", "k", {"png": b""}), generator(0), True)


def test_wrong_settings_are_named(tokenizer_path, vocab_size, tmp_path):
    with pytest.raises(InputError, match="max_tokens=2"):
        MaskedText(tokenizer_path, 2)
    with pytest.raises(InputError, match="mlm_probability=1"):
        MaskedText(tokenizer_path, 20, mlm_probability=1)
    with pytest.raises(InputError, match="does not exist"):
        MaskedText(str(tmp_path / "none.json"), 20)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InputError, match="not readable by tokenizers"):
        MaskedText(str(tmp_path / "broken.json"), 20)
    with pytest.raises(InputError, match="head 'brt' is unknown; did you mean 'bert'"):
        MaskedLM(16, vocab_size, head="brt")
    encoder = TextEncoder(vocab_size, 16, 1, 4)
    assert MaskedLM(16, vocab_size).accept({"text": encoder}) is None
    assert "width=32" in MaskedLM(32, vocab_size).accept({"text": encoder})
    assert "vocab_size=9" in MaskedLM(16, 9).accept({"text": encoder})


@pytest.mark.parametrize(("head", "names"), [("none", set()), ("modernbert", {"dense.weight", "norm.weight"})])
def test_heads_have_the_layers_of_their_family(head, names):
    objective = MaskedLM(16, 30, head=head)
    assert {name for name, _ in objective.named_parameters()} == names | {"bias"}
    hidden = torch.randn(5, 16)
    if head == "none":
        assert objective.transform(hidden) is hidden
    else:
        expected = F.layer_norm(F.gelu(hidden @ objective.dense.weight.T), (16,), objective.norm.weight)
        torch.testing.assert_close(objective.transform(hidden), expected)
    assert not [*MaskedLM(16, 30, head="none", bias=False).parameters()]

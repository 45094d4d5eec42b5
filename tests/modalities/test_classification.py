import itertools

import numpy as np
import pytest
import torch

from data.errors import InputError, SampleError
from data.sample import Sample
from modalities.classification import Classification, Classified
from modalities.objective import Step
from modalities.text.encoder import TextEncoder
from modalities.text.prepare import TextPrepare
from tests.conftest import sentence

LABELS = ["cat", "cow", "dog"]
RNG = np.random.default_rng(0)


@pytest.fixture
def prepare(tokenizer_path):
    return Classified(TextPrepare(tokenizer_path, 20), labels=LABELS)


def sample(number, label):
    return Sample("own-000000.tar", str(number), {"txt": sentence(number).encode(), "cls": label.encode()})


def batch(prepare, labels):
    return prepare.collate([prepare(sample(n, label), RNG, False) for n, label in enumerate(labels)])


def parts(vocab_size):
    torch.manual_seed(1)
    return {"input": TextEncoder(vocab_size, 16, 1, 2)}, Classification(16, LABELS)


def test_prepare_gives_inputs_and_numbers(prepare):
    made = batch(prepare, ["dog", "cat", " dog\n"])
    assert made["labels"].tolist() == [2, 0, 2]
    assert made["size"] == 3
    assert len(made["input"]["layout"]) == 3
    assert set(prepare.needs) == {"text", "label"}
    assert Classified.learn(["b", "a", "b"]) == ["a", "b"]


def test_an_unknown_label_is_a_reason_of_the_sample(prepare):
    with pytest.raises(SampleError, match="label 'horse' is none of the 3 that the run knows") as caught:
        prepare(sample(0, "horse"), RNG, False)
    assert (caught.value.kind, caught.value.member) == ("unknown_label", "cls")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "labels are not known; 'pretrain adapt' reads them"),
        (["a", "b", "a"], "labels has 'a' twice"),
        (["a"], r"labels=\['a'\] has fewer than 2"),
    ],
)
def test_wrong_labels(tokenizer_path, labels, message):
    with pytest.raises(InputError, match=message):
        Classified(TextPrepare(tokenizer_path, 20), labels=labels)
    with pytest.raises(InputError, match=message):
        Classification(16, labels)


@pytest.mark.parametrize("option", ["dropout", "smoothing"])
def test_wrong_shares(option):
    with pytest.raises(InputError, match=f"{option}=1.0"):
        Classification(16, LABELS, **{option: 1.0})


def test_held_out_figures_are_those_of_counting(prepare, vocab_size):
    encoders, objective = parts(vocab_size)
    objective.eval()
    labels = ["cat", "dog", "dog", "cat", "dog"]
    batches = [batch(prepare, labels[:3]), batch(prepare, labels[3:])]
    found = objective.measure(encoders, batches, Step())
    with torch.no_grad():
        logits = torch.cat([objective.logits(encoders, one) for one in batches])
    true, said = torch.cat([one["labels"] for one in batches]), logits.argmax(1)
    assert found["loss"]["value"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, true)))
    assert found["accuracy"]["value"] == float((true == said).double().mean())
    scores = []
    for number in set(true.tolist()) | set(said.tolist()):
        hits = int(((true == number) & (said == number)).sum())
        scores.append(2 * hits / int((true == number).sum() + (said == number).sum()))
    assert found["macro_f1"]["value"] == pytest.approx(sum(scores) / len(scores))
    assert found["accuracy"]["chance"] == 0.6
    assert found["macro_f1"]["chance"] == pytest.approx(2 * 3 / (3 + 5) / 2)
    assert found["loss"]["chance"] == pytest.approx(-0.6 * np.log(0.6) - 0.4 * np.log(0.4))
    classes = found["accuracy"]["classes"]
    assert {name: row["samples"] for name, row in classes.items()} == {"cat": 2, "cow": 0, "dog": 3}
    assert sum(row["right"] for row in classes.values()) == int((true == said).sum())


def test_micro_batches_give_the_gradient_of_the_whole(prepare, vocab_size):
    labels = ["cat", "dog", "dog", "cow"]
    found = []
    for cuts in ([0, 4], [0, 1, 4]):
        encoders, objective = parts(vocab_size)
        items = [prepare(sample(n, label), RNG, False) for n, label in enumerate(labels)]
        batches = [prepare.collate(items[a:b]) for a, b in itertools.pairwise(cuts)]
        metrics = objective.step(encoders, batches, Step(), 1.0)
        found.append((metrics, [p.grad for p in (*encoders["input"].parameters(), *objective.parameters())]))
    torch.testing.assert_close(found[0], found[1])


def test_another_width_is_refused(vocab_size):
    encoders, _ = parts(vocab_size)
    assert Classification(8, LABELS).accept(encoders) == "the objective has width=8, its encoder width=16"

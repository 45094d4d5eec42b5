"""Evaluators on a real model and real shards: they must say what the metrics say of vectors made one by one."""

import logging

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from data.errors import InputError
from data.store.store import Store
from data.write import write
from pretrain import config
from pretrain.callbacks.evaluation import Evaluation
from pretrain.evaluation.build import build_evaluators
from pretrain.evaluation.features import Embedded
from pretrain.evaluation.kinds.retrieval import Retrieval
from pretrain.evaluation.measure import measure
from pretrain.evaluation.metrics import health, linear, retrieval, zero_shot
from pretrain.model import build_model
from tests.conftest import png, sentence, wav
from tests.modalities.parity.numbers import randomise
from tests.pretrain.embedding.small import SMALL

CLASSES = ("red_circle", "blue_square", "green_star")


def labelled(folder, name, count, start, json=False, **more):
    def samples():
        for n in range(start, start + count):
            kind = n % 3
            # Of the same class the same words in front: there is something to learn, if little.
            text = " ".join([CLASSES[kind].replace("_", " ")] * 3 + sentence(n, 4).split())
            label = {"json": b'{"of": {"kind": %d}}' % kind} if json else {"cls": CLASSES[kind].encode()}
            yield f"{name}-{n:04d}", {"txt": text.encode(), "png": png(n), "wav": wav(n), **label, **more}

    write(samples(), folder, name)
    return str(folder / f"{name}-*.tar")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    return {"train": labelled(folder, "train", 60, 0), "test": labelled(folder, "test", 30, 100)}


@pytest.fixture(scope="module")
def composed(tmp_path_factory, tokenizer_path):
    """(config of a run with more overrides, the model with random weights)"""

    def compose(*more):
        base = ["data=shards", "data.folder=none", f"data.tokenizer={tokenizer_path}", "~evaluators.image_audio"]
        base += [f"tasks.{task}.heldout=null" for task in ("mlm", "clip", "clap", "wav2vec")]
        resolved = config.load([*base, *SMALL, *more])
        torch.manual_seed(0)
        model = build_model(resolved)
        randomise(model)
        return resolved, model

    return compose


def scores(composed, *more):
    resolved, model = composed(*more)
    evaluators = build_evaluators(resolved, model, Store())
    return measure(model, evaluators), model, evaluators


def probes(data, kind, *more, encoder="text"):
    place = "evaluators.x"
    return [
        f"+evaluator@{place}={kind}", f"{place}.encoder={encoder}", f"{place}.train={data['train']}",
        f"{place}.test={data['test']}", *more,
    ]  # fmt: skip


def vectors(model, evaluators, source, side="x"):
    found = evaluators[0].features[source](model)
    return found.rows[side].astype(np.float64), found.labels


def test_features_are_those_of_samples_alone(composed, data):
    resolved, model = composed(*probes(data, "linear_probe"))
    (evaluator,) = build_evaluators(resolved, model, Store())
    model.eval()
    found = evaluator.features["test"](model)
    assert found.labels == [CLASSES[n % 3] for n in range(100, 130)]
    prepare = evaluator.features["test"].prepare.sides["x"]
    stream = evaluator.features["test"].stream
    with torch.no_grad():
        for number in (0, 17, 29):
            sample = stream.read(stream.locate(np.array([number]))[0])
            item = prepare(sample, np.random.default_rng(0), False)
            alone = model.encoders["text"].pooled(prepare.collate([item]))[0].numpy()
            assert np.allclose(found.rows["x"][number], alone, atol=1e-4)


def test_linear_probe_few_shot_and_neighbours(composed, data):
    found, model, evaluators = scores(composed, *probes(data, "linear_probe"))
    model.eval()
    (train, taught), (test, asked) = (vectors(model, evaluators, source) for source in ("train", "test"))
    names = sorted(CLASSES)
    numbers = np.array([names.index(one) for one in taught])
    right = np.array([names.index(one) for one in asked])
    fitted, scale, _ = linear.probe(train, numbers, 3)
    assert found["x/accuracy"]["value"] == (fitted.classes(scale(test)) == right).mean()
    assert found["x/accuracy"]["value"] > 0.5
    assert found["x/accuracy"]["chance"] == pytest.approx(1 / 3)
    found, *_ = scores(composed, *probes(data, "neighbours", "evaluators.x.k=7"))
    theirs = KNeighborsClassifier(7, metric="cosine", algorithm="brute", weights=lambda d: np.exp(-d / 0.07))
    assert found["x/accuracy"]["value"] == theirs.fit(train, numbers).score(test, right)
    found, *_ = scores(composed, *probes(data, "few_shot"))
    assert list(found) == [f"x/accuracy@{k}" for k in (1, 4, 8, 16)]
    assert all(score["chance"] == pytest.approx(1 / 3) for score in found.values())
    assert found["x/accuracy@16"]["value"] > found["x/accuracy@1"]["value"] > 0.2


@pytest.mark.parametrize("kind", ["linear_probe", "neighbours", "few_shot"])
def test_classes_that_were_never_taught_are_told_once(composed, data, tmp_path, caplog, kind):
    more = labelled(tmp_path, "more", 6, 0, cls=b"odd")
    mixed = f"[{data['test']},{more}]"
    resolved, model = composed(*probes({**data, "test": mixed}, kind))
    evaluators = build_evaluators(resolved, model, Store())
    with caplog.at_level(logging.WARNING, logger="pretrain"):
        for _ in range(2):
            found = measure(model, evaluators)
            for evaluator in evaluators:
                evaluator.forget()
    said = [record.getMessage() for record in caplog.records if "those of train lack" in record.getMessage()]
    assert said == [
        "evaluators.x: 6 of 36 samples of test have a class that those of train lack ('odd'); they count as wrong"
    ]
    assert all(score["value"] <= 30 / 36 for score in found.values())


def test_labels_from_a_field_of_json_and_a_sample_without(composed, data, tmp_path):
    other = labelled(tmp_path, "json", 12, 0, json=True)
    more = [*probes({"train": other, "test": other}, "linear_probe"), "evaluators.x.label=json.of.kind"]
    _, model, evaluators = scores(composed, *more)
    assert vectors(model, evaluators, "test")[1] == [str(n % 3) for n in range(12)]
    with pytest.raises(InputError, match=r"have no class member \(cls\)"):
        scores(composed, *probes({"train": other, "test": other}, "linear_probe"))


def test_retrieval_both_ways_and_health(composed, data):
    more = ["+evaluator@evaluators.pair=image_text", f"evaluators.pair.source={data['test']}"]
    more += ["+evaluator@evaluators.health=health", "evaluators.health.encoder=image", "evaluators.health.pair=text"]
    more += [f"evaluators.health.source={data['test']}", "evaluators.health.embed_dim=12"]
    found, model, evaluators = scores(composed, *more)
    pair, other = evaluators
    assert pair.features["source"] is other.features["source"]  # embedded once for both
    model.eval()
    rows = pair.features["source"](model).rows
    for one, way in (("a", "image_to_text"), ("b", "text_to_image")):
        expected = retrieval.recall(rows[one], rows["b" if one == "a" else "a"])
        for k in (1, 5, 10):
            assert found[f"pair/{way}_recall@{k}"] == {"value": expected[k][0], "chance": pytest.approx(k / 30)}
    assert found["health/alignment"]["value"] == health.alignment(rows["a"], rows["b"])
    assert found["health/image_effective_rank"]["value"] == health.effective_rank(rows["a"])
    assert found["health/text_uniformity"]["value"] == health.uniformity(rows["b"])


def test_retrieval_within_one_modality_has_both_ways(composed):
    more = ["+encoder@encoders.other=image_tiny", "+task@tasks.second=clip", "tasks.second.encoders.a=other"]
    _, model = composed(*more, "tasks.second.heldout=null")
    rows = np.stack([np.eye(6, 12, dtype=np.float32)] * 2)
    rows[1, :3] = rows[0, 0]  # of these the first of a finds three that are alike, that of b its own
    embedded = {"source": Embedded({"a": rows[0], "b": rows[1]}, [""] * 6)}
    ways = [retrieval.recall(rows[one], rows[1 - one], ks=[1])[1][0] for one in (0, 1)]
    assert ways[0] != ways[1]
    found = Retrieval({"a": "image", "b": "other"}, None, 12, k=1).measure(embedded, model)
    assert found == {
        "image_to_other_recall@1": {"value": ways[0], "chance": pytest.approx(1 / 6)},
        "other_to_image_recall@1": {"value": ways[1], "chance": pytest.approx(1 / 6)},
    }
    found = Retrieval({"a": "other", "b": "other"}, None, 12, k=1).measure(embedded, model)
    assert found == {"image_to_image_recall@1": {"value": sum(ways) / 2, "chance": pytest.approx(1 / 6)}}


def test_retrieval_by_groups_counts_all_of_a_group_as_right(composed, data):
    more = ["+evaluator@evaluators.x=image_text", f"evaluators.x.source={data['test']}", "evaluators.x.group=cls"]
    found, *_ = scores(composed, *more)
    assert found["x/image_to_text_recall@1"]["chance"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("kind", ["image", "audio"])
def test_zero_shot_is_by_the_texts_of_the_classes(composed, data, kind):
    more = [f"+evaluator@evaluators.x=zero_shot_{kind}", f"evaluators.x.source={data['test']}"]
    more += ["evaluators.x.names={red_circle: ruby disc}", 'evaluators.x.templates=["{} one", "the {}"]']
    found, model, evaluators = scores(composed, *more)
    assert evaluators[0].texts("red_circle") == ["ruby disc one", "the ruby disc"]
    assert evaluators[0].texts("blue_square") == ["blue square one", "the blue square"]
    model.eval()
    rows, labels = vectors(model, evaluators, "source", "samples")
    names = sorted(CLASSES)
    with torch.no_grad():
        classes = zero_shot.classifier([evaluators[0]._embed(evaluators[0].texts(name), model) for name in names])
    right = np.array([names.index(one) for one in labels])
    assert found["x/accuracy"] == {"value": zero_shot.accuracy(rows, classes, right), "chance": pytest.approx(1 / 3)}
    assert list(found) == ["x/accuracy", "x/balanced_accuracy"]


def test_zero_shot_finds_the_class_whose_text_a_sample_is_like(composed, data):
    more = ["+evaluator@evaluators.x=zero_shot_image", f"evaluators.x.source={data['test']}"]
    more += ["evaluators.x.encoders.samples=text", 'evaluators.x.templates=["{} {} {}"]']
    found, *_ = scores(composed, *more)
    assert found["x/accuracy"]["value"] > 0.7
    wrong = "evaluators.x.names={red_circle: green star, green_star: blue square, blue_square: red circle}"
    found, *_ = scores(composed, *more, wrong)
    assert found["x/accuracy"]["value"] < 0.2


def test_measuring_again_embeds_again(composed, data):
    more = ["+evaluator@evaluators.x=health", "evaluators.x.encoder=text", f"evaluators.x.source={data['test']}"]
    resolved, model = composed(*more)
    evaluators = build_evaluators(resolved, model, Store())
    before = measure(model, evaluators)
    assert measure(model, evaluators) == before
    with torch.no_grad():
        model.encoders["text"].token_embedding.weight.mul_(0.5)
    assert measure(model, evaluators) != before


def test_what_a_run_cannot_have_is_left_out_and_said(composed, data, caplog):
    logging.getLogger("pretrain").propagate = True
    caplog.set_level(logging.INFO, "pretrain")
    found, *_ = scores(composed, "+evaluator@evaluators.x=linear_probe")
    assert found == {}
    assert "evaluator 'x' is left out: it has no train" in caplog.text
    scores(
        composed,
        "+evaluator@evaluators.y=image_audio",
        "evaluators.y.embed_dim=77",
        f"evaluators.y.source={data['test']}",
    )
    assert "evaluator 'y' is left out: no task gives encoder 'image' a projection to 77 features" in caplog.text
    scores(composed, *probes(data, "few_shot", encoder="null"))
    assert "the run has several encoders (" in caplog.text


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("few_shot", "evaluators.x.ks=[0]", r"ks=\[0\].*must be 1 or more"),
        ("neighbours", "evaluators.x.temperature=0", "temperature=0 above 0"),
        ("linear_probe", "evaluators.x.pool=median", "evaluators.x: pool 'median' is unknown"),
        ("linear_probe", "evaluators.x.label=txt.a", "label 'txt.a' is neither a member"),
        ("zero_shot_image", "evaluators.x.templates=[a photo]", "template 'a photo' has no {}"),
    ],
)
def test_wrong_settings_are_named(composed, data, kind, more, message):
    given = probes(data, kind) if "shot_image" not in kind else [f"+evaluator@evaluators.x={kind}"]
    with pytest.raises(InputError, match=message):
        scores(composed, *given, more)


def test_one_class_teaches_nothing(composed, data, tmp_path):
    alike = labelled(tmp_path, "alike", 3, 0, cls=b"same")
    with pytest.raises(InputError, match="all samples of train have the class 'same'"):
        scores(composed, *probes({"train": alike, "test": data["test"]}, "linear_probe"))


def test_what_cannot_be_measured_costs_a_training_nothing_else(composed, data, tmp_path, caplog):
    alike = labelled(tmp_path, "alike", 3, 0, cls=b"same")
    more = probes({"train": alike, "test": data["test"]}, "linear_probe")
    more += ["+evaluator@evaluators.y=neighbours", "evaluators.y.encoder=text"]
    more += [f"evaluators.y.{name}={data[name]}" for name in ("train", "test")]
    resolved, model = composed(*more)
    evaluators = build_evaluators(resolved, model, Store())
    callback = Evaluation(None, evaluators, 10, 95)
    for _ in range(2):
        assert list(measure(model, evaluators, callback._failed)) == ["y/accuracy"]
    assert caplog.text.count("all samples of train have the class 'same'; the run goes on without these values") == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["evaluators.x.names={red_circle: ''}"], "the text '' of a class cannot be used: member txt is empty"),
        (["evaluators.x.classes=[red_circle,red_circle,blue_square]"], "classes has 'red_circle' twice"),
    ],
)
def test_classes_that_no_text_can_tell_apart_are_named(composed, data, more, message):
    given = ["+evaluator@evaluators.x=zero_shot_image", f"evaluators.x.source={data['test']}"]
    with pytest.raises(InputError, match=message):
        scores(composed, *given, "evaluators.x.templates=['{}']", *more)


def test_each_has_its_cadence_and_all_are_measured_at_the_end(composed, data, tmp_path):
    more = [*probes(data, "neighbours", "evaluators.x.every_n_steps=30")]
    more += ["+evaluator@evaluators.pair=image_text", f"evaluators.pair.source={data['test']}"]
    resolved, model = composed(*more)
    callback = Evaluation(None, build_evaluators(resolved, model, Store()), 10, 95)
    due = {step: [one.name for one in callback.due(step)] for step in (5, 10, 30, 95)}
    assert due == {5: [], 10: ["pair"], 30: ["x", "pair"], 95: ["x", "pair"]}


def test_inputs_are_where_the_task_of_the_pair_has_them(composed, data, tmp_path):
    words = [sentence(n, 5) for n in range(12)]
    captions = [sentence(100 + n, 5) for n in range(12)]
    samples = (
        (f"x-{n}", {"txt": words[n].encode(), "png": png(n), "json": b'{"caption": "%s"}' % captions[n].encode()})
        for n in range(12)
    )
    write(samples, tmp_path, "pairs")
    source = f"{tmp_path}/pairs-*.tar"
    clip = ["tasks.clip.prepare.b.member=json", "tasks.clip.prepare.b.field=caption"]
    pair = ["+evaluator@evaluators.x=image_text", f"evaluators.x.source={source}"]
    alone = ["+evaluator@evaluators.x=health", "evaluators.x.encoder=text", f"evaluators.x.source={source}"]

    def texts(*more):
        resolved, model = composed(*clip, *more)
        (evaluator,) = build_evaluators(resolved, model, Store())
        prepare = list(evaluator.features["source"].prepare.sides.values())[-1]
        return prepare.source.member, prepare.source.field

    assert texts(*pair) == ("json", "caption")
    assert texts(*alone) == ("txt", None)
    assert texts(*alone, "evaluators.x.embed_dim=12") == ("json", "caption")
    assert texts(*pair, "evaluators.x.prepare={b: {member: txt, field: null}}") == ("txt", None)
    with pytest.raises(InputError, match="prepare names the side 'c'; choices: a, b"):
        texts(*pair, "evaluators.x.prepare={c: {member: txt}}")


def test_measuring_leaves_no_trace_in_the_training(composed, data):
    more = [*probes(data, "linear_probe"), "+evaluator@evaluators.zero=zero_shot_image"]
    more += [f"evaluators.zero.source={data['test']}", "+evaluator@evaluators.pair=image_text"]
    more += [f"evaluators.pair.source={data['test']}"]
    resolved, model = composed(*more)
    evaluators = build_evaluators(resolved, model, Store())
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = measure(model, evaluators)
    assert len(first) == 1 + 2 + 6
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(part.training for part in model.modules())
    assert measure(model, evaluators) == first

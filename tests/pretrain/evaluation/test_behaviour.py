"""Behavioural tests on a real model and real shards: they must fail where, and only where, behaviour is wrong."""

import logging

import numpy as np
import pytest
import torch
import yaml

from data.errors import InputError
from data.sample import Sample
from data.store.store import Store
from data.write import write
from modalities.text.tokenizer import TextTokenizer
from pretrain import config
from pretrain.cli import main
from pretrain.evaluation import results
from pretrain.evaluation.behaviour.suite import read_suite
from pretrain.evaluation.build import build_evaluators
from pretrain.evaluation.measure import measure
from pretrain.evaluation.metrics import behaviour as metrics
from pretrain.evaluation.scores import tables_of
from pretrain.model import build_model
from pretrain.report.facts import read_facts
from pretrain.report.page import page
from tests.conftest import png, sentence, wav
from tests.modalities.parity.numbers import randomise
from tests.pretrain.embedding.small import SMALL

COUNT = 16


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("behaviour")
    kinds = ("red", "blue")
    samples = (
        (f"own-{n:03d}", {"txt": sentence(n, 8).encode(), "png": png(n), "wav": wav(n), "cls": kinds[n % 2].encode()})
        for n in range(COUNT)
    )
    write(samples, folder, "own")
    return str(folder / "own-*.tar")


@pytest.fixture(scope="module")
def model(tokenizer_path):
    """(config with the evaluator x, a model of random weights)"""
    given = ["data=shards", "data.folder=none", f"data.tokenizer={tokenizer_path}", "~evaluators.image_audio"]
    given += [f"tasks.{task}.heldout=null" for task in ("mlm", "clip", "clap", "wav2vec")]
    resolved = config.load([*given, *SMALL, "+evaluator@evaluators.x=behaviour"])
    torch.manual_seed(0)
    built = build_model(resolved)
    randomise(built)
    return resolved, built


@pytest.fixture
def behave(model, source, tmp_path):
    """behave(suite, encoder, **settings) -> (scores, verdicts: test -> row, failures, evaluator)"""
    resolved, built = model

    def run(suite, encoder="text", **settings):
        if not isinstance(suite, str | None):
            (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))
            suite = str(tmp_path / "suite.yaml")
        own = {"encoder": encoder, "source": source, "suite": suite, "show": 3} | settings
        node = {**resolved["evaluators"]["x"], **own}
        (evaluator,) = build_evaluators({**resolved, "evaluators": {"x": node}}, built, Store())
        found = {name.removeprefix("x/"): score for name, score in measure(built, [evaluator]).items()}
        built.eval()
        verdicts, failures = {}, []
        for table in evaluator.tables:
            rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
            if table["kind"] == "behaviour":
                verdicts = {row["test"]: row for row in rows}
            else:
                failures = rows
        return found, verdicts, failures, evaluator

    return run


@torch.no_grad()
def vectors(model, evaluator, texts):
    """Texts -> (N, D) unit rows, one by one."""
    base = evaluator.features["source"].prepare.base
    samples = [Sample("", "", {"txt": text.encode()}) for text in texts]
    items = [base.collate([base(one, np.random.default_rng(0), False)]) for one in samples]
    return metrics.units(np.concatenate([model.encoders["text"].pooled(item).numpy() for item in items]))


def test_cosines_are_those_of_texts_embedded_one_by_one(behave, model):
    def suite(cosine):
        return {"small": {"kind": "invariance", "change": {"case": {"to": "upper"}}, "cosine": cosine, "allowed": 0.4}}

    *_, evaluator = behave(suite(-1))
    texts = [sentence(n, 8) for n in range(COUNT)]
    rows, other = (vectors(model[1], evaluator, own) for own in (texts, [text.upper() for text in texts]))
    expected = (rows * other).sum(1)
    least = float((np.sort(expected)[7] + np.sort(expected)[8]) / 2)
    share = 0.5
    found, verdicts, failures, _ = behave(suite(least), show=COUNT)
    assert found["small_failures"] == {"value": share}
    row = verdicts["small"]
    assert (row["failed>"], row["of>"]) == (round(share * COUNT), COUNT)
    assert row["verdict"] == "FAILED"
    assert found["failed_tests"]["value"] == 1
    shown = {row["sample"]: row for row in failures}
    assert set(shown) == {f"own-{n:03d}" for n in range(COUNT) if expected[n] < least}
    assert [row["found>"] for row in failures] == sorted(row["found>"] for row in failures)  # the worst first
    for key, row in shown.items():
        number = int(key.removeprefix("own-"))
        assert row["found>"] == pytest.approx(expected[number], abs=1e-4)
        assert (row["as it is"], row["changed"]) == (texts[number], texts[number].upper())


def test_what_the_encoder_cannot_see_never_fails_and_what_it_sees_does(behave):
    suite = {
        "same": {"kind": "invariance", "change": {"replace": {"words": {"zebra": "horse"}}}, "cosine": 0.999999},
        "identity": {
            "kind": "invariance",
            "change": {"replace": {"words": {"red": "RED", "RED": "red"}}},
            "cosine": -1,
        },
        "another": {"kind": "invariance", "change": {"replace": {"words": {"the": "zzz"}}}, "cosine": 1.0},
        "class": {"kind": "invariance", "change": {"case": {"to": "upper"}}, "same_class": True},
        "shuffled": {"kind": "invariance", "change": "shuffle", "top": COUNT},
    }
    found, verdicts, *_ = behave(suite, label="cls")
    assert "same" not in verdicts  # no text has the word: the test applies to nothing and says nothing
    assert "same_failures" not in found
    applies = sum("the" in sentence(n, 8).split() for n in range(COUNT))
    assert 0 < applies < COUNT
    assert (verdicts["another"]["failed>"], verdicts["another"]["of>"]) == (applies, applies)
    assert found["shuffled_failures"]["value"] == 0
    assert verdicts["class"]["of>"] == COUNT


def test_a_direction_holds_one_way_and_fails_the_other(behave):
    def suite(expect, of="original"):
        less, more = {"drop_words": {"share": 0.1}}, {"shuffle": None, "drop_words": {"share": 0.8}}
        return {"less": {"kind": "direction", "of": of, "change": less, "than": more, "expect": expect}}

    up, down = (behave(suite(expect))[0]["less_failures"] for expect in ("higher", "lower"))
    assert up["value"] + down["value"] == pytest.approx(1)
    assert up["value"] < 0.2
    assert up["chance"] == 0.5
    up, down = (behave(suite(e, "pair"), pair="image", embed_dim=12)[0]["less_failures"] for e in ("higher", "lower"))
    assert up["value"] + down["value"] == pytest.approx(1)


def test_a_picture_is_compared_with_its_own_text_and_another_s(behave, model):
    suite = {"own": {"kind": "ability", "of": "pair", "allowed": 0.1}}
    found, _, failures, evaluator = behave(suite, "image", pair="text", embed_dim=12, show=COUNT)
    rows = evaluator.features["source"](model[1]).rows
    similar = metrics.units(rows["original"]) @ metrics.units(rows["pair"]).T
    expected = {f"own-{n:03d}": similar[n, n] for n in range(COUNT)}
    assert len(failures) == round(found["own_failures"]["value"] * COUNT) > 0
    for row in failures:
        own, other = row["sample"].split(", not ")
        assert own != other
        place, there = (int(key.removeprefix("own-")) for key in (own, other))
        assert row["found>"] == pytest.approx(expected[own] - similar[place, there])
        assert row["found>"] <= 0


@torch.no_grad()
def test_hidden_words_are_judged_by_the_head_of_the_task(behave, model, tokenizer_path):
    suite = {
        "near": {"kind": "ability", "of": "masked", "top": 1},
        "far": {"kind": "ability", "of": "masked", "top": 320},
        "cases": {"kind": "ability", "of": "masked", "top": 5, "cases": [{"text": "one [MASK] three", "word": "two"}]},
        "order": {"kind": "direction", "of": "masked", "change": "shuffle", "expect": "lower"},
    }
    found, verdicts, failures, evaluator = behave(suite, show=COUNT)
    model = model[1]
    assert evaluator.features == {}
    assert found["far_failures"]["value"] == 0
    assert found["near_failures"]["value"] > 0.8
    assert found["cases_failures"]["chance"] == pytest.approx(1 - 5 / TextTokenizer(tokenizer_path).size)
    task = model.tasks["mlm"]
    tokenizer = task.prepare.tokenizer
    (before, word, after) = (tokenizer.encode(text) for text in ("one", "two", "three"))
    tokens = [task.prepare.start, *before, *[task.prepare.mask] * len(word), *after, task.prepare.end]
    masked = np.arange(1 + len(before), 1 + len(before) + len(word))
    item = {"tokens": np.array(tokens), "masked": masked, "labels": np.array(word)}
    inputs = task.prepare.collate([item])["text"]
    hidden = task.objective.transform(model.encoders["text"](inputs).tokens[inputs["masked"]])
    logits = hidden @ model.encoders["text"].token_embedding.weight.T + task.objective.bias
    rank = max(int((row > row[label]).sum()) + 1 for row, label in zip(logits, word, strict=True))
    assert found["cases_failures"]["value"] == (rank > 5)
    if rank > 5:
        (row,) = [row for row in failures if row["test"] == "cases"]
        assert (row["found>"], row["as it is"]) == (rank, "one [two] three")
    assert verdicts["order"]["of>"] > COUNT / 2
    for row in (row for row in failures if row["test"] == "order"):
        assert row["found>"] >= 0
        marked = [text.split() for text in (row["as it is"], row["changed"])]
        assert sorted(marked[0]) == sorted(marked[1])  # the hidden word moves with the others


@pytest.mark.parametrize(("encoder", "pair"), [("text", "image"), ("image", "text"), ("audio", "text")])
def test_packaged_suites_run_on_each_modality(behave, model, encoder, pair):
    found, verdicts, _, evaluator = behave(None, encoder, pair=pair, embed_dim=12, label="cls", samples=COUNT)
    names = {test.name for test in read_suite(encoder, encoder)}
    applying = names - {"synonyms", "small_letters", "no_punctuation"} if encoder == "text" else names
    assert applying <= set(verdicts) <= names
    assert {f"{name}_failures" for name in verdicts} | {"failed_tests"} == set(found)
    assert {row["kind"] for row in verdicts.values()} == {"invariance", "direction", "ability"}
    again = measure(model[1], [evaluator])
    assert again == {f"x/{name}": score for name, score in found.items()}
    assert tables_of([evaluator])["x"][0]["rows"][0][0] in verdicts


def test_what_a_run_cannot_be_asked_is_left_out_and_said(behave, caplog):
    logging.getLogger("pretrain").propagate = True
    caplog.set_level(logging.INFO, "pretrain")
    found, *_ = behave("image", "image")
    assert "brighter_failures" in found
    assert "test 'own_other_half' of evaluator 'x' is left out: it needs a pair" in caplog.text
    assert "test 'mirrored_class' of evaluator 'x' is left out: it needs a label" in caplog.text


def test_values_and_tables_come_with_evaluate_and_into_the_report(evaluated, tmp_path, capsys):
    directory = evaluated(tmp_path / "run", [3])
    more = ["+evaluator@evaluators.b=behaviour", "evaluators.b.encoder=text", f"evaluators.b.source={evaluated.source}"]
    assert main(["evaluate", str(tmp_path / "run"), "--threads", "1", *more, "~tasks.clip.heldout"]) == 0
    said = capsys.readouterr().out
    assert "b: behavioural tests" in said
    assert "b: the worst failures, at most 5 a test" in said
    found = results.read(results.path_of(directory.path, 3))
    assert "b/typos_failures" in found["metrics"]
    assert [table["kind"] for table in found["tables"]["b"]] == ["behaviour", "failures"]
    assert main(["evaluate", str(tmp_path / "run"), "--threads", "1"]) == 0  # others do not take them away
    assert results.read(results.path_of(directory.path, 3))["tables"] == found["tables"]
    html = page(read_facts(directory.path))
    assert "<h2>b: behavioural tests</h2>" in html
    assert "likeness to the original: drop words (share 0.1) higher than drop words (share 0.5)" in html


INVARIANT = {"kind": "invariance", "change": "shuffle", "top": 1}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "invariant"}, "kind 'invariant' is unknown; did you mean 'invariance'"),
        ({**INVARIANT, "change": "typoes"}, "change 'typoes' is unknown for text; did you mean 'typos'"),
        ({**INVARIANT, "change": {"typos": {"shore": 1}}}, "change 'typos' has no argument 'shore'"),
        ({**INVARIANT, "change": {"typos": {"share": 2}}}, "change 'typos': share=2 is not above 0"),
        ({**INVARIANT, "change": {"typos": {"share": "x"}}}, "change 'typos' refuses {'share': 'x'}"),
        ({**INVARIANT, "change": {"shuffle": {"all": 1}}}, "has no argument 'all'; it takes none"),
        ({**INVARIANT, "change": "replace"}, "change 'replace' lacks words"),
        ({**INVARIANT, "tops": 1}, "invariance has no key 'tops'; did you mean 'top'"),
        ({**INVARIANT, "cosine": 1}, "needs one of cosine, top and same_class"),
        ({**INVARIANT, "top": 0}, "top=0 is not a whole number of 1 or more"),
        ({**INVARIANT, "allowed": 2}, "allowed=2 is not a number from 0 to 1"),
        ({"kind": "invariance", "top": 1}, "it needs change"),
        ({"kind": "direction", "of": "original", "change": "shuffle", "expect": "higher"}, "than names the change"),
        ({"kind": "direction", "of": "pair", "change": "shuffle", "expect": "up"}, "expect 'up' is unknown"),
        ({"kind": "ability", "of": "original"}, "of 'original' is unknown; choices: masked, pair"),
        ({"kind": "ability", "of": "masked", "top": 5, "cases": [{"text": "no hole", "word": "a"}]}, "once"),
        ({"kind": "ability", "of": "masked", "top": 5, "cases": [{"text": "[MASK]"}]}, "is not {text, word}"),
        (7, "it is 7, not a mapping"),
    ],
)
def test_wrong_suites_are_named_with_their_place(behave, spec, message):
    with pytest.raises(InputError) as error:
        behave({"mine": spec})
    assert str(error.value).startswith("evaluators.x: suite '")
    assert "test 'mine': " in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_suite_that_is_none_is_named(behave, tmp_path):
    for text, message in (("", "has no tests"), ("a: [", "is no YAML"), ("- a", "has no tests")):
        (tmp_path / "own.yaml").write_text(text)
        with pytest.raises(InputError, match=message):
            behave(str(tmp_path / "own.yaml"))
    with pytest.raises(InputError, match="suite 'txt' is neither a file nor a packaged one; did you mean 'text'"):
        behave("txt")
    with pytest.raises(InputError, match="pair=image is compared in a joint space; give embed_dim"):
        behave({"mine": INVARIANT}, pair="image")


def test_a_suite_of_another_modality_is_named(behave):
    with pytest.raises(InputError, match="change 'typos' is unknown for image"):
        behave("text", "image")


@torch.no_grad()
def test_a_source_without_a_usable_sample_tells_nothing(behave, tmp_path):
    write(((f"x-{n}", {"txt": b" ", "png": png(n)}) for n in range(3)), tmp_path, "empty")
    suite = {
        "order": {"kind": "direction", "of": "masked", "change": "shuffle", "expect": "lower"},
        "near": {"kind": "ability", "of": "masked", "top": 1},
    }
    assert behave(suite, source=f"{tmp_path}/empty-*.tar")[0] == {}

"""Metrics group by group, and code books: they must be those of each group's samples alone."""

import json

import numpy as np
import pytest
import torch

from data.sample import Sample
from data.store.store import Store
from data.write import write
from modalities.audio.quantizer import perplexity
from pretrain import config
from pretrain.cli import main
from pretrain.evaluation.build import build_evaluators
from pretrain.evaluation.heldout import Heldout
from pretrain.evaluation.measure import measure
from pretrain.model import build_model
from tests.conftest import sentence, wav
from tests.modalities.parity.numbers import randomise
from tests.pretrain.embedding.small import SMALL

LANGUAGES = ["eng"] * 9 + ["kab"] * 6 + ["amh"] * 2


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    order = np.random.default_rng(0).permutation(len(LANGUAGES))
    samples = [
        (
            f"own-{n:03d}",
            {"txt": sentence(n).encode(), "json": json.dumps({"lang": LANGUAGES[n]}).encode(), "wav": wav(n)},
        )
        for n in order
    ]
    write(samples, folder, "own")
    for group in set(LANGUAGES):
        write((one for one in samples if json.loads(one[1]["json"])["lang"] == group), folder, f"only-{group}")
    return str(folder)


@torch.no_grad()
def spread_codes(model):
    """Frames of a model that learned nothing are much alike, and all have one code: takes away what they share."""
    task = model.tasks["wav2vec"]
    sample = Sample("", "", {"wav": wav(0)})
    batch = task.prepare.collate([task.prepare(sample, np.random.default_rng(0), False)])
    quantizer, frames = task.objective.quantizer, model.encoders["audio"].features(batch["audio"]).normed
    quantizer.choose.weight.normal_()
    quantizer.choose.bias.copy_(-(quantizer.choose.weight @ frames.mean(0)))


@pytest.fixture(scope="module")
def run(tokenizer_path):
    given = ["data=shards", "data.folder=none", f"data.tokenizer={tokenizer_path}", "~evaluators.image_audio"]
    given += [f"tasks.{task}.heldout=null" for task in ("mlm", "clip", "clap", "wav2vec")]
    more = ["+evaluator@evaluators.g=groups", "+evaluator@evaluators.h=health", "evaluate.batch_size=4"]
    resolved = config.load([*given, *SMALL, *more])
    torch.manual_seed(0)
    model = build_model(resolved)
    randomise(model)
    spread_codes(model)

    def measured(name, **settings):
        node = {**resolved["evaluators"][name], **settings}
        (evaluator,) = build_evaluators({**resolved, "evaluators": {name: node}}, model, Store())
        return measure(model, [evaluator]), evaluator

    return measured, model


def test_each_group_is_measured_as_if_it_were_alone(run, source):
    measured, _ = run
    found, evaluator = measured("g", task="wav2vec", source=f"{source}/own-*.tar", by="json.lang", least=3, curves=True)
    (table,) = evaluator.tables
    rows = {row[0]: dict(zip(table["columns"], row, strict=True)) for row in table["rows"]}
    assert [row[0] for row in table["rows"]] == ["eng", "kab", "amh"]
    assert [row["samples>"] for row in rows.values()] == [9, 6, 2]
    assert rows["amh"]["loss>"] is None
    assert found["g/groups"]["value"] == 2
    assert "2 of 3 groups measured" in table["title"]
    for group in ("eng", "kab"):
        assert found[f"g/{group}/loss"]["value"] == rows[group]["loss>"]
    values = [rows[group]["contrastive accuracy>"] for group in ("eng", "kab")]
    assert found["g/contrastive_accuracy_lowest"]["value"] == min(values)
    assert found["g/contrastive_accuracy_highest"]["value"] == max(values)
    assert rows["eng"]["chance of contrastive accuracy>"] > 0
    again, _ = measured("g", task="wav2vec", source=f"{source}/own-*.tar", by="json.lang", least=3, curves=True)
    assert again == found


def test_masked_accuracy_of_one_group_is_that_of_the_task(run, source):
    """Of shards that hold one group alone, masks are drawn at other places: every text of a model that knows nothing of
    the place has the same chance, so what can be compared exactly is a group that is everything."""
    measured, model = run
    pattern = f"{source}/only-eng-*.tar"
    found, evaluator = measured("g", task="mlm", source=pattern, by="json.lang", curves=True)
    evaluator.passes["source"].stream.task = "mlm.heldout"  # the name that seeds the masks
    again = measure(model, [evaluator])
    expected = Heldout(model.tasks["mlm"], pattern, 100, 4)
    model.eval()
    with torch.no_grad():
        whole = expected(model)
    assert again["g/eng/masked_accuracy"] == whole["mlm/masked_accuracy"]
    assert again["g/eng/loss"]["value"] == pytest.approx(whole["mlm/loss"]["value"])
    assert found["g/eng/loss"]["chance"] > 0


@torch.no_grad()
def test_code_perplexity_is_over_all_frames_of_all_recordings(run, source):
    measured, model = run
    found, evaluator = measured("h", encoder="audio", source=f"{source}/own-*.tar")
    model.eval()
    objective = model.tasks["wav2vec"].objective
    counts = torch.zeros(objective.quantizer.groups, objective.quantizer.size, dtype=torch.float64)
    for batch in evaluator.features["source"].batches():
        inputs = batch["sides"]["a"]
        logits = objective.quantizer.logits(model.encoders["audio"].features(inputs).normed)
        for group, codes in enumerate(logits.argmax(-1).T):
            counts[group] += torch.bincount(codes, minlength=objective.quantizer.size)
    assert counts.sum() > 100
    expected = float(perplexity(counts / counts[0].sum()))
    assert found["h/audio_code_perplexity"] == {"value": pytest.approx(expected), "chance": 2.0}
    assert 2.0 < expected < 16.0
    text, _ = measured("h", encoder="text", source=f"{source}/own-*.tar")
    assert "h/text_code_perplexity" not in text


def test_the_model_card_has_verdicts_and_coverage_and_the_report_shows_them(evaluated, tmp_path):
    run = tmp_path / "run"
    evaluated(run, [3])
    more = [f"evaluators.{name}.{key}" for name in "bg" for key in (f"source={evaluated.source}", "samples=9")]
    more += ["+evaluator@evaluators.b=behaviour", "evaluators.b.encoder=image", "~tasks.clip.heldout"]
    more += ["+evaluator@evaluators.g=groups", "evaluators.g.task=mlm", "evaluators.g.by=txt", "evaluators.g.least=1"]
    assert main(["evaluate", str(run), "--threads", "1", *more]) == 0
    from pretrain.export import card
    from pretrain.export.origin import open_origin

    origin = open_origin(str(run), False)
    text = "\n".join(line for part in card._tables(origin) for line in part)
    assert "## Behavioural tests" in text
    assert "| blurred | invariance |" in text
    assert "the worst failures" not in text  # of samples that the reader of a card may not have
    assert "## Coverage" in text
    assert "g: task mlm by txt, 9 of 9 groups measured:" in text


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"task": "mml"}, "task 'mml' is not part of this run"), ({}, "the run has several tasks"),
     ({"task": "mlm", "source": None}, "it has no source")],
)  # fmt: skip
def test_what_a_run_cannot_have_is_left_out(run, source, caplog, settings, reason):
    caplog.set_level("INFO", "pretrain")
    with pytest.raises(ValueError, match="unpack"):
        run[0]("g", **{"source": source, **settings})
    assert reason in caplog.text

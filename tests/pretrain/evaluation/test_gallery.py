"""What a run shows of its held-out samples, from the config to the file."""

import json

import numpy as np
import pytest
import torch

from data.errors import InputError
from data.store.store import Store
from pretrain.evaluation import shown
from pretrain.evaluation.build import build_evaluators
from pretrain.evaluation.exhibit import MOST
from pretrain.evaluation.kinds.gallery import Gallery
from pretrain.evaluation.measure import measure
from pretrain.model import build_model
from pretrain.run import RunDirectory
from pretrain.vectors import unit
from tests.pretrain.embedding.small import composed


@pytest.fixture(scope="module")
def galleries(evaluated, tmp_path_factory, tokenizer_path):
    """(model, its galleries once they were measured)."""
    folder = tmp_path_factory.mktemp("shown")
    run = evaluated(folder / "run", [])
    resolved = {**run.frozen_config(), "report": {"enabled": True, "every_s": 60, "samples": 20}}
    tasks = {k: {**v, "heldout": evaluated.source} for k, v in resolved["tasks"].items()}
    model = build_model(resolved)
    made = build_evaluators({**resolved, "tasks": tasks}, model, Store())
    found = [one for one in made if isinstance(one, Gallery)]
    state = torch.get_rng_state()
    assert measure(model, found) == {}
    assert torch.equal(torch.get_rng_state(), state)
    return model, found


def test_all_encoders_of_a_source_that_share_a_space_are_shown_together(galleries):
    _, (one,) = galleries
    assert one.name == "text-image-audio"
    found = one.shown
    assert found["samples"] == 20
    assert found["modalities"] == {"text": "text", "image": "image", "audio": "audio"}
    assert set(found["sheets"]) == {"image", "audio"}
    assert all(found["texts"]["text"])
    assert [len(drawn["points"]) for drawn in found["maps"]] == [20] * 3
    assert len(found["retrievals"]) == 6
    assert 0 < len(found["sounds"]) <= 10


def test_what_is_found_is_what_lies_nearest(galleries):
    model, (one,) = galleries
    embedded = one.features["source"](model)
    for retrieval in one.shown["retrievals"]:
        queries, candidates = (unit(embedded.rows[retrieval[side]]) for side in ("from", "to"))
        for query, *found in retrieval["rows"]:
            similarity = queries[query] @ candidates.T
            assert similarity[found] == pytest.approx(np.sort(similarity)[::-1][: len(found)])
    one.forget()


def test_samples_are_looked_at_once_and_places_follow_the_weights(galleries):
    model, (one,) = galleries
    before, sheets = one.shown["maps"], one.shown["sheets"]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    measure(model, [one])
    assert one.features["source"].prepare.views is False
    assert one.shown["sheets"] == sheets
    assert one.shown["maps"] != before


def test_a_run_that_goes_back_shows_nothing_of_later_steps(galleries, tmp_path):
    _, found = galleries
    shown.write_all(tmp_path, 20, found)
    (path,) = (tmp_path / "shown").iterdir()
    assert json.loads(path.read_text())["step"] == 20
    assert path.stat().st_size < MOST
    shown.write_all(tmp_path, 10, found)  # of an older checkpoint, evaluated later
    assert shown.all_of(tmp_path)[0]["step"] == 20
    run = RunDirectory(str(tmp_path), rank=-1)
    run.rewind(20)
    assert len(shown.all_of(tmp_path)) == 1
    run.rewind(19)
    assert shown.all_of(tmp_path) == []


def test_a_full_disk_is_a_warning(galleries, tmp_path, caplog):
    (tmp_path / "shown").write_text("in the way")
    with caplog.at_level("WARNING", "pretrain"):
        shown.write_all(tmp_path, 20, galleries[1])
    assert "what 'text-image-audio' shows of held-out data cannot be written" in caplog.text


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"samples": 1000}, "samples=1000 is not between 1 and 160"),
        ({"k": 0}, "k=0 is not between 1 and 16"),
        ({"encoders": {"a": "image", "b": "text"}}, "2 encoders can be shown together in a joint space alone"),
    ],
)
def test_wrong_arguments(given, line):
    with pytest.raises(InputError, match=line):
        Gallery(**{"encoders": {"x": "image"}, "source": "a.tar"} | given)


def test_none_where_no_report_is_wanted(evaluated, tmp_path, tokenizer_path):
    resolved = composed(
        tmp_path, tokenizer_path, ["~evaluators.image_audio", "report.enabled=false", *_only(evaluated)]
    )
    assert not [e for e in build_evaluators(resolved, build_model(resolved), Store()) if isinstance(e, Gallery)]


def _only(evaluated):
    tasks = ("mlm", "clip", "clap", "wav2vec")
    return [f"tasks.{task}.{part}={evaluated.source}" for task in tasks for part in ("source", "heldout")]

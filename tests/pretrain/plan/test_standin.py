"""Plans of data that is not there."""

import json

import numpy as np
import pytest

from data.errors import InputError
from data.sample import Sample
from modalities.audio.prepare import AudioPrepare
from modalities.image.prepare import ImagePrepare
from modalities.prepare import Sides
from modalities.text.prepare import TextPrepare
from pretrain.cli import main
from pretrain.plan.standin import stand_in


@pytest.mark.parametrize("where", [{}, {"member": "json", "field": "a.captions.0.b"}])
def test_samples_are_as_large_as_the_config_lets_them_be(tokenizer_path, where):
    text = TextPrepare(str(tokenizer_path), 50, **where)
    found = stand_in(Sides(a=text, b=ImagePrepare(24, min_side=30), c=AudioPrepare(8000, 1.5, sample_rates=[16000])))
    assert len(found["a"]["tokens"]) == 50
    assert found["b"]["pixels"].shape == (3, 24, 24)
    assert len(found["c"]["wave"]) == 12_000


def test_what_states_no_size_is_named():
    class Own:
        def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> dict:
            return {}

    with pytest.raises(InputError, match="Own does not state how large its samples are"):
        stand_in(Own())


def test_a_plan_without_data_says_so(capsys):
    given = ["plan", "experiment=clip_tiny", "tasks.clip.source=/nowhere/a.tar", "--tflops", "1", "--json"]
    assert main(given) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["faults"][0].startswith("source 'clip': shards '/nowhere/a.tar' match nothing")
    (remark,) = found["remarks"]
    assert remark == (
        "task 'clip' is planned without its data, with samples as large as its config allows: an upper bound"
    )
    assert found["tasks"]["clip"]["epochs"] is None
    assert found["flops"] > 0
    assert found["memory"]["most"] > found["memory"]["weights"] > 0
    assert main([argument for argument in given if argument != "--json"]) == 2
    said = capsys.readouterr().out
    assert "not known" in said
    assert "memory " in said
    assert main([given[0], "trainer.devices=5", *given[1:]]) == 2  # no share of a step can be rehearsed
    assert json.loads(capsys.readouterr().out)["tasks"] == {}

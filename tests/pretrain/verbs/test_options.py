"""One grammar for all verbs: what has no name may stand on either side of what has one."""

import json

import pytest

from pretrain.verbs import embed, evaluate, export, plan, run_report, runs, search, sweep


@pytest.mark.parametrize(
    ("verb", "argv", "name", "expected"),
    [
        (plan, ["a=1", "--json", "b=2"], "overrides", ["a=1", "b=2"]),
        (plan, ["--fits", "80GB", "a=1", "--json"], "overrides", ["a=1"]),
        (plan, ["a=1", "--json", "~b", "--tflops", "3", "+c=2"], "overrides", ["a=1", "~b", "+c=2"]),
        (evaluate, ["RUN", "a=1", "--json", "b=2"], "overrides", ["a=1", "b=2"]),
        (embed, ["RUN", "x.tar", "--out", "o", "y.tar"], "pattern", ["x.tar", "y.tar"]),
        (embed, ["--out", "o", "RUN", "x.tar", "--trust", "p", "--trust", "q"], "trust", ["p", "q"]),
        (search, ["--text", "a", "DIR", "--json"], "table", "DIR"),
        (runs, ["list", "a", "--json", "b"], "places", ["a", "b"]),
        (sweep, ["retry", "DIR", "3", "4"], "trials", [3, 4]),
        (export, ["--out", "o", "RUN"], "run", "RUN"),
        (run_report, ["RUN", "--quiet"], "run", "RUN"),
    ],
)
def test_places_of_options_do_not_matter(verb, argv, name, expected):
    found = vars(verb.parser().parse_args(argv))[name]
    assert (str(found) if isinstance(expected, str) else found) == expected


@pytest.mark.parametrize(
    ("verb", "argv"),
    [
        (plan, ["--jsn"]),
        (runs, ["list", "--jsn"]),
        (runs, ["lst"]),
        (evaluate, ["--json"]),
        (embed, ["RUN", "--out", "o"]),
    ],
)
def test_unknown_options_and_missing_arguments_are_still_refused(verb, argv, capsys):
    with pytest.raises(SystemExit) as end:
        verb.parser().parse_args(argv)
    assert end.value.code == 2
    assert "usage: pretrain" in capsys.readouterr().err


def test_plan_takes_a_change_behind_an_option(tokenizer_path, shards, capsys):
    given = ["experiment=mlm_tiny", "data=shards", f"data.tokenizer={tokenizer_path}", f"data.text.train={shards()}"]
    small = ["encoders.text.width=16", "encoders.text.heads=2", "tasks.mlm.batch_size=8", "data.text.heldout=null"]
    assert plan.main([*given, *small, "--tflops", "1", "--json", "max_steps=7"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"]["mlm"]["samples"] == 7 * 8

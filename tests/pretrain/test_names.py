"""Keys that are not UTF-8, and JSON that holds half a character: nothing that names them ends in a traceback."""

import contextlib
import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest

from data.errors import RunError
from data.write import write
from pretrain.attempts import DEATHS, PROGRESS, Attempts
from pretrain.cli import main
from pretrain.embedding import parts
from pretrain.report.page import write_report
from pretrain.run import RunDirectory, open_log
from tests.conftest import sentence
from tests.pretrain.report.rundir import lines, make

ODD = "k\udcff"
"""A key of the byte 0xff, as it comes out of a tar."""
SHOWN = "k\\udcff"


@pytest.fixture
def odd(tmp_path, tokenizer_path, vocab_size):
    """Shards of 24 samples under such keys, every sixth of them unusable; the command line of a run over them."""
    samples = ((f"{ODD}{n:02d}", {"txt": b"\xff" if n % 6 == 0 else sentence(n, 9).encode()}) for n in range(24))
    write(samples, tmp_path / "odd", "odd")
    return [
        "experiment=mlm_tiny",
        "data=shards",
        f"data.tokenizer={tokenizer_path}",
        f"data.vocab_size={vocab_size}",
        f"tasks.mlm.source={tmp_path}/odd/*.tar",
        "tasks.mlm.heldout=null",
        f"run_dir={tmp_path}/run",
        "max_steps=4",
        "tasks.mlm.batch_size=4",
        "loader.workers=0",
        "logger=none",
        "trainer.threads=1",
        "trainer.accelerator=cpu",
        *(f"encoders.text.{key}" for key in ("width=16", "depth=1", "heads=2")),
    ]


def test_a_spent_budget_is_the_cause_whatever_the_keys_are(odd, tmp_path, capsys):
    assert main([*odd, "quarantine.min_count=0"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert f"the first: '{SHOWN}" in said.splitlines()[-1]
    ended = json.loads((tmp_path / "run/ended.json").read_text())
    assert ended["state"] == "failed"
    assert "more than quarantine.max_share=0.01 and quarantine.min_count=0 allow" in ended["cause"]
    assert ODD in ended["cause"]
    assert SHOWN in (tmp_path / "run" / PROGRESS).read_text()
    assert ODD in json.loads((tmp_path / "run/quarantine.jsonl").read_text().splitlines()[0])["key"]


def test_such_a_run_has_a_report_and_its_samples_can_be_listed(odd, tmp_path, capsys):
    assert main(odd) == 0
    assert "cannot be written" not in capsys.readouterr().err
    assert SHOWN in (tmp_path / "run/report.html").read_text(encoding="utf-8")
    for encoding in ("utf-8:strict", "ascii:strict"):
        for verb in (
            ["replay", f"{tmp_path}/run", "--steps", ":"],
            ["replay", f"{tmp_path}/run", "--steps", ":", "--dump", f"{tmp_path}/{encoding[:4]}"],
            ["check", f"{tmp_path}/odd", "--decode", "--duplicates"],
            ["stats", f"{tmp_path}/odd"],
        ):
            done = subprocess.run(
                [sys.executable, "-m", "pretrain", "shards", *verb],
                env={**os.environ, "PYTHONIOENCODING": encoding},
                capture_output=True,
                check=False,
                timeout=120,
            )
            assert done.returncode == (verb[0] == "check"), done.stderr
            assert SHOWN.encode() in done.stdout
            assert b"Traceback" not in done.stderr


def test_half_a_character_in_json_is_shown_and_trained_around(odd, tmp_path, capsys):
    half = {"json": b'{"language": "\\ud800", "text": "\\ud800"}', "txt": b"words of some length"}
    samples = [(f"s{n}", half if n == 3 else {"json": json.dumps({"text": sentence(n, 9)}).encode()}) for n in range(9)]
    write(samples, tmp_path / "half", "half")
    assert main(["shards", "stats", f"{tmp_path}/half"]) == 0
    assert r"languages (1): \ud800 1" in capsys.readouterr().out
    card = tmp_path / "card.md"
    assert main(["shards", "card", f"{tmp_path}/half", "--out", str(card), "--duplicates"]) == 0
    assert r"- languages (1): \ud800 1" in card.read_text(encoding="utf-8")
    reads = ["tasks.mlm.prepare.member=json", "tasks.mlm.prepare.field=text"]
    assert main([*odd, f"tasks.mlm.source={tmp_path}/half/*.tar", *reads]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run/quarantine.jsonl").read_text().splitlines()]
    assert {(row["key"], row["kind"], row["member"]) for row in rows} == {("s3", "not_utf8", "json")}


def test_a_death_is_written_down_and_read_again(tmp_path):
    for _ in range(2):
        with contextlib.suppress(RunError), Attempts(tmp_path, 3) as attempts:
            attempts.begin([], str)
            attempts.note(7)
            raise RunError(f"no '{ODD}'")
    [death] = json.loads((tmp_path / DEATHS).read_text())
    assert death["cause"] == f"RunError: no '{SHOWN}'"


def test_log_and_report_take_every_name(tmp_path, capsys):
    run = make(tmp_path / "run")
    lines(run / "events.jsonl", [{"step": 3, "event": "slow_sample", "key": ODD}])
    lines(run / "quarantine.jsonl", [{"step": 3, "task": "mlm", "shard": "a", "key": ODD, "reason": "no"}])
    assert SHOWN in write_report(run).read_text(encoding="utf-8")
    open_log(RunDirectory(str(tmp_path / "other")), console=False)
    logging.getLogger("pretrain").warning("'%s' is slow", ODD)
    assert f"'{SHOWN}' is slow" in (tmp_path / "other/log.txt").read_text(encoding="utf-8")
    assert "Logging error" not in capsys.readouterr().err


@pytest.mark.parametrize("kind", sorted(parts.FORMATS))
def test_embeddings_of_such_samples_are_written_in_every_format(tmp_path, kind):
    pytest.importorskip("pyarrow" if kind == "parquet" else "numpy")
    vectors, rows = np.ones((1, 4), np.float32), [{"number": 0, "key": ODD, "shard": "a.tar"}]
    parts.write(tmp_path, 0, kind, vectors, rows)
    found, read = parts.read(tmp_path, 0, kind)
    assert read == rows
    np.testing.assert_array_equal(found, vectors)

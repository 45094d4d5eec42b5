import json
import re
import time

import pytest

from data.errors import InputError
from pretrain.cli import main
from pretrain.evaluation import results as evaluations
from pretrain.evaluation import shown
from pretrain.evaluation.exhibit import MOST
from pretrain.report.facts import read_facts, without_secrets
from pretrain.report.happened import happened
from pretrain.report.page import page, write_report
from pretrain.report.rows import WHOLE
from tests.pretrain.report.rundir import gallery, lines, make, start

GALLERY = "shown/text-image-audio.json"


def figures(html):
    return re.findall(r"<figcaption>(.*?)<b>", html)


def test_every_metric_has_its_figure(tmp_path):
    html = write_report(make(tmp_path / "run")).read_text()
    titles = figures(html)
    expected = ["loss", "contrastive accuracy", "code perplexity", "loss", "recall@1", "loss, all tasks weighted"]
    assert titles == [
        *expected,
        "gradient norm",
        "learning rate",
        "samples a second",
        "waiting for data",
        "text",
        "image",
        "audio",
    ]
    assert html.count("band of healthy runs") == 2
    assert html.count('class="reference"') >= 2
    assert "held out, prose" in html
    assert "chance, prose" in html
    for text in (
        "grounded &lt;tiny&gt;",
        "finished",
        "resumed on node7",
        "alarm: wav2vec/code_perplexity left band at 3",
    ):
        assert text in html
    assert "2 not_utf8" in html
    assert "&lt;k&gt;" in html
    assert "<td>3,200</td><td>4</td><td>2</td>" in html  # drawn from mlm/prose, epochs, quarantine of mlm
    for text in ("4,000 samples in 3 shards", "2.0 h of sound", "about 1.2M characters, 330k tokens"):
        assert text in html
    assert "de 75 %, fr 25 %" in html
    assert "licence: CC BY 4.0" in html
    assert "caption &lt;1&gt;" in html
    assert "text → image<small>4 of 4 right at the first place</small>" in html


def test_nothing_comes_from_elsewhere_and_no_secret_goes_in(tmp_path):
    html = write_report(make(tmp_path / "run")).read_text()
    assert "default-src 'none'" in html
    assert not re.search(r"\b(src|href|action)\s*=(?!\"data:)|@import|url\((?!data:)", html.partition("<script>")[0])
    own = html.rpartition("<script>")[2]
    assert not re.search(r"https?:|import\(|fetch\(|XMLHttp|\.src\b", own)
    assert "canary" not in html
    assert "https://(hidden)@host/a.tar?(hidden)" in html
    assert "max_tokens: 77" in html


def test_secrets_are_told_by_their_names():
    kept = {"max_tokens": 1, "tokenizer": "a", "author": "x", "path": "a=b", "key": "k"}
    assert without_secrets({k: v for k, v in kept.items() if k != "author"}) == {
        k: v for k, v in kept.items() if k != "author"
    }
    hidden = without_secrets({"hf_token": "a", "AWS_SECRET_ACCESS_KEY": "b", "x": ["wandb.api_key=c", "s3://u:p@h/x"]})
    assert hidden == {
        "hf_token": "(hidden)",
        "AWS_SECRET_ACCESS_KEY": "(hidden)",
        "x": ["wandb.api_key=(hidden)", "s3://(hidden)@h/x"],
    }


def test_a_run_that_has_just_begun(tmp_path):
    run = make(tmp_path / "run", steps=1)
    for name in (*("results.json", "speed.jsonl", "events.jsonl", "quarantine-00000.jsonl"), GALLERY):
        (run / name).unlink()
    assert "0 % of 400 steps" in write_report(run).read_text()
    (run / "metrics.jsonl").unlink()
    (run / "starts.jsonl").unlink()
    assert figures(write_report(run).read_text()) == []


def test_a_long_run_costs_no_more(tmp_path):
    run = make(tmp_path / "run", steps=40_000, long=True)
    assert (run / "metrics.jsonl").stat().st_size > 30e6
    began = time.process_time()
    html = page(read_facts(run))
    assert time.process_time() - began < 5
    assert len(html) < 3e6
    assert "40,000" in html


def test_of_a_very_long_quarantine_every_sample_counts(tmp_path):
    run = make(tmp_path / "run")
    row = {"step": 5, "task": "mlm", "shard": "s" * 200, "key": "k", "kind": "not_utf8", "reason": "r"}
    other = {**row, "step": 2, "kind": "too_long", "task": "clip"}
    lines(run / "quarantine-00000.jsonl", [row] * 40_000 + [other] * 3)
    facts = read_facts(run)
    assert (run / "quarantine-00000.jsonl").stat().st_size > WHOLE
    assert facts.rejected.kinds == {"not_utf8": 40_000, "too_long": 3}
    assert facts.rejected.tasks == {"mlm": 40_000, "clip": 3}
    assert "40,003" in page(facts)


def test_what_was_drawn_is_told_also_after_an_evaluation_of_a_step_without_a_row(tmp_path):
    run = make(tmp_path / "run")
    before = re.findall("<td>3,200</td><td>4</td>", page(read_facts(run)))
    assert before
    evaluations.write(evaluations.path_of(run, 401), 401, "x", False, {"mlm/loss": {"value": 1.0}})
    assert re.findall("<td>3,200</td><td>4</td>", page(read_facts(run))) == before


def test_no_text_of_a_sample_ends_or_opens_a_script(tmp_path):
    run = make(tmp_path / "run")
    evil = gallery(4)
    text = json.dumps(evil).replace("caption", "<!-- <script src=a.js> </script> caption")
    shown.write(run, 400, "evil", json.loads(text))
    for part in re.findall(r"<script[^>]*>(.*?)</script>", write_report(run).read_text(), re.DOTALL):
        assert "<!--" not in part
        assert "<script" not in part


def test_samples_of_classes_are_coloured_and_galleries_bounded(tmp_path):
    run = make(tmp_path / "run")
    largest = gallery(160, labels=True, size=2.0)
    for name in "abcd":
        shown.write(run, 400, name, largest)
    text = write_report(run).read_text()
    assert len(text) < 3e6
    assert "Left out, as the page would become too large: " in text
    assert 'class="class5 dots"' in text
    assert '<li><i class="class5"></i>others</li>' in text
    assert max(path.stat().st_size for path in (run / "shown").iterdir()) < MOST + 100


def test_of_many_events_the_last(tmp_path):
    run = make(tmp_path / "run")
    jump = {"step": 3, "positions": {"mlm": 40}, "batch_sizes": {"mlm": 8}, "jumps": {"mlm": 24}}
    lines(run / "starts.jsonl", [*(start(n) for n in range(200)), jump])  # which is no start
    found = happened(read_facts(run))
    assert len(found) == 61
    assert found[0].text == ["142 earlier ones are left out"]


def test_the_verb(tmp_path, capsys):
    run = make(tmp_path / "run")
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run}/report.html\n"
    assert main(["report", str(run), "--out", str(tmp_path / "a.html"), "--quiet"]) == 0
    assert (tmp_path / "a.html").stat().st_size > 10_000
    assert not list(run.glob(".*.part"))
    assert main(["report", str(tmp_path)]) == 2
    assert "is no run directory (it has no config.yaml)" in capsys.readouterr().err
    assert main(["report", str(run), "--out", str(tmp_path / "no/a.html")]) == 2
    assert "No such file or directory" in capsys.readouterr().err


def test_a_config_that_is_none(tmp_path):
    run = make(tmp_path / "run")
    (run / "config.yaml").write_text("[")
    with pytest.raises(InputError, match="is not the config of a run any more"):
        read_facts(run)

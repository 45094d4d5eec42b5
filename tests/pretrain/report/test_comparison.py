"""Several runs on one page."""

import yaml

from pretrain.cli import main
from pretrain.report.comparison import MOST
from tests.pretrain.report.rundir import CONFIG, make
from tests.pretrain.report.test_page import figures


def several(folder, count=3):
    """Runs that differ in their rate, a secret and their length; below two folders."""
    for number in range(count):
        run = make(folder / f"group{number % 2}" / f"run{number}", steps=200 + 100 * number)
        changed = {**CONFIG, "optimizer": {"lr": 10.0**-number, "password": f"canary{number}x"}, "more": "<b>"}
        changed = {key: value for key, value in changed.items() if key != "more" or number}
        (run / "config.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
        (run / "lock").write_text("")
    return folder


def test_curves_settings_and_results_of_all_runs(tmp_path, capsys):
    target = tmp_path / "all.html"
    assert main(["runs", "compare", str(several(tmp_path / "runs")), "--html", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    html = target.read_text()
    titles = figures(html)
    for title in ("loss", "contrastive accuracy", "gradient norm", "lr", "prose, loss, held out", "recall@1, held out"):
        assert title in titles
    assert len(titles) == 9
    for name in ("group0/run0", "group1/run1", "group0/run2"):
        assert html.count(name) > 4
    assert "<tr><td>optimizer.lr</td><td>1.0</td><td>0.01</td><td>0.1</td></tr>" in html
    assert "<tr><td>more</td><td>–</td><td>&lt;b&gt;</td><td>&lt;b&gt;</td></tr>" in html
    assert "<tr><td>mlm/prose/loss</td><td>1.1</td>" in html
    assert "canary" not in html
    assert len(html) < 3e6


def test_what_cannot_be_compared(tmp_path, capsys):
    runs = several(tmp_path / "runs", 2)
    assert main(["runs", "compare", str(runs), "--html", "a.html", "--json"]) == 2
    assert "--html and --json exclude one another" in capsys.readouterr().err
    assert main(["runs", "compare", str(runs), "--html", str(tmp_path / "no/a.html")]) == 2
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
    assert main(["runs", "compare", str(runs / "group0"), "--html", "a.html"]) == 2
    assert "1 run directories" in capsys.readouterr().err


def test_the_largest_page_is_small_enough(tmp_path, capsys):
    for number in range(MOST):
        run = make(tmp_path / f"run{number:02d}", steps=300, long=True, plain=True)
        (run / "lock").write_text("")
    target = tmp_path / "all.html"
    assert main(["runs", "compare", str(tmp_path), "--html", str(target)]) == 0
    assert 1e6 < target.stat().st_size < 3e6
    capsys.readouterr()
    (make(tmp_path / "one-more", steps=1, plain=True) / "lock").write_text("")
    assert main(["runs", "compare", str(tmp_path), "--html", str(target)]) == 2
    assert f"25 run directories in {tmp_path}; a page has room for {MOST}" in capsys.readouterr().err

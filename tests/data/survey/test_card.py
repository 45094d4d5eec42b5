from data.sample import Sample
from data.survey.card import Card, Drawn, SourceEntry, TaskEntry, markdown
from data.survey.stats import Stats
from tests.conftest import png


def entry(name, samples, **more):
    stats = Stats()
    for number in range(samples):
        stats.add(Sample("a.tar", str(number), {"png": png(number), "txt": b"abc", "cls": b"a|b\nc"}))
    return SourceEntry(name, f"{name}-*.tar", 2, samples, 1000 * samples, "f" * 64, stats, **more)


def test_card_of_shards():
    text = markdown(Card("Ours", [entry("one", 1), entry("two", 3, licence="CC0", origin="a | b")], duplicates=2))
    assert text.startswith("# Ours\n\n## Sources\n")
    assert "| one | 2 | 1 | 25.0 % | 1 kB | 25.0 % | not stated |" in text
    assert "| two | 2 | 3 | 75.0 % | 3 kB | 75.0 % | CC0 |" in text
    assert "| all | 4 | 4 |  | 4 kB |  |  |" in text
    assert "Exact duplicates over all sources: 2 samples." in text
    assert "24 x 20 pixels" in text
    assert "- labels (1): a|b c 3" in text
    assert f"- fingerprint: `{'f' * 64}`" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| ") and "png" in line}
    assert widths == {5}


def test_card_of_a_run_has_what_was_asked_for_and_what_was_drawn():
    task = TaskEntry("mlm", 32, 0.5, [Drawn("one", 3.0, 70, 0.25), Drawn("two", 1.0, 30, 2.0)])
    text = markdown(Card("Run", [entry("one", 2)], ["Run `a`."], [task]))
    assert "Run `a`." in text
    assert "Global batch 32, weight of the loss 0.5." in text
    assert "| one | 3 | 75.0 % | 70 | 70.0 % | 0.25 |" in text
    assert "| two | 1 | 25.0 % | 30 | 30.0 % | 2 |" in text

import itertools

from pretrain.report import rows
from pretrain.report.rows import read_rows
from tests.pretrain.report.rundir import lines


def test_a_file_that_is_being_written_to(tmp_path):
    assert read_rows(tmp_path / "none.jsonl") == []
    lines(tmp_path / "a.jsonl", [{"step": 2}, {"step": 1}, {"other": 1}, [1]])
    with open(tmp_path / "a.jsonl", "a") as file:
        file.write('broken\n{"step": 3, "x"')
    assert read_rows(tmp_path / "a.jsonl") == [{"step": 1}, {"step": 2}]


def test_of_a_long_file_a_part_but_every_measurement(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "WHOLE", 50_000)
    monkeypatch.setattr(rows, "PIECES", 20)
    monkeypatch.setattr(rows, "PIECE", 500)
    count = 5000
    held = {977, 2001, 4999}
    made = [{"step": n, "loss": n / 7} | ({"heldout/a/loss": 1.0} if n in held else {}) for n in range(1, count + 1)]
    lines(tmp_path / "a.jsonl", made)
    found = read_rows(tmp_path / "a.jsonl")
    assert len(found) < 500
    assert {row["step"] for row in found if "heldout/a/loss" in row} == held
    steps = [row["step"] for row in found]
    assert steps == sorted(set(steps))
    assert steps[0] == 1
    assert steps[-1] == count
    assert max(b - a for a, b in itertools.pairwise(steps)) < count / 15
    assert all(row in made for row in found)

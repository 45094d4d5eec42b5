import json

import pytest

from pretrain.run import EVENTS, METRICS
from pretrain.runs.files import all_rows, count_lines, last_rows, some_values
from pretrain.runs.following import Following


def write(path, count, width=10, end=""):
    path.write_text("".join(json.dumps({"step": n, "pad": "x" * width}) + "\n" for n in range(1, count + 1)) + end)
    return path


@pytest.mark.parametrize("count", [1, 3, 20_000])
@pytest.mark.parametrize("width", [1, 900])
@pytest.mark.parametrize("wanted", [1, 5, 100])
def test_the_last_rows_of_any_length(tmp_path, count, width, wanted):
    if count * width > 2_000_000:
        count = 2_000_000 // width
    rows = last_rows(write(tmp_path / "rows", count, width), wanted)
    assert [row["step"] for row in rows] == list(range(max(1, count - wanted + 1), count + 1))


def test_what_is_being_written_is_left_out(tmp_path):
    assert [row["step"] for row in last_rows(write(tmp_path / "rows", 3, end='{"step": 4, "pa'), 2)] == [2, 3]


def test_a_line_that_a_crash_cut_in_two_is_passed_over(tmp_path):
    path = write(tmp_path / "rows", 3, end='{"step"\n{"step": 5}\n')
    assert [row["step"] for row in last_rows(path, 3)] == [3, 5]


def test_no_file_has_no_rows(tmp_path):
    assert last_rows(tmp_path / "rows") == all_rows(tmp_path / "rows") == []
    assert count_lines(tmp_path / "rows") == 0


def test_a_long_file_is_sampled_from_begin_to_end(tmp_path):
    path = write(tmp_path / "rows", 100_000, 5)
    found = some_values(path, "step")
    assert found == sorted(found)
    assert found[0] < 10
    assert found[-1] > 99_990
    assert abs(sum(found) / len(found) / 50_000 - 1) < 0.02
    assert some_values(write(path, 500), "step") == list(range(1, 501))


@pytest.mark.parametrize(("count", "width"), [(500, 10), (5000, 200), (20, 300_000)])
def test_all_rows_of_any_length(tmp_path, count, width):
    path = write(tmp_path / "rows", count, width, end='{"step"')
    assert [row["step"] for row in all_rows(path)] == list(range(1, count + 1))
    assert count_lines(path) == count


def test_following_tells_every_event_once_also_of_a_file_that_was_written_anew(tmp_path):
    def put(*events):
        part = tmp_path / ".part"
        part.write_text("".join(json.dumps({"step": n, "event": kind}) + "\n" for n, kind in events))
        part.rename(tmp_path / EVENTS)

    write(tmp_path / METRICS, 3)
    put((1, "spike"))
    following = Following(tmp_path, 0)
    told = []
    for events in [
        [(1, "spike"), (2, "nonfinite"), (2, "alarm")],
        [(1, "spike"), (2, "nonfinite"), (2, "alarm")],
        [(1, "spike")],
        [(1, "spike"), (1, "jump")],
    ]:
        put(*events)
        told.append([line.rpartition(" ")[2] for line in following.further()])
    assert told == [["nonfinite", "alarm"], [], [], ["jump"]]


@pytest.mark.parametrize("count", [0, 7, 3_000])
def test_values_are_those_of_the_rows(tmp_path, count):
    path = tmp_path / "rows"
    rows = [{"step": n, "seconds": 10.0 ** (n % 40 - 20), "data_seconds": 5.0, "last": -n} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"seconds": 7.0')
    for key in ("seconds", "last"):
        assert some_values(path, key) == [row[key] for row in all_rows(path)]
    assert some_values(path, "conds") == some_values(tmp_path / "none", "seconds") == []

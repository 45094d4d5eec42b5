import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from data.errors import InputError, RunError
from pretrain.closing import table
from pretrain.run import METRICS, QUARANTINE, SPEED, RunDirectory


def test_rewind_drops_later_rows_and_a_torn_last_line(tmp_path):
    run = RunDirectory(str(tmp_path / "run"))
    for step in range(1, 7):
        for file in (METRICS, SPEED, QUARANTINE, "ledger/rank-0.jsonl", "ledger/rank-1.jsonl"):
            run.append(file, {"step": step, "value": step / 7})
    with open(run.path / METRICS, "a") as file:
        file.write('{"step": 7, "val')
    assert [row["step"] for row in run.rows(METRICS)] == [1, 2, 3, 4, 5, 6]
    before = (run.path / METRICS).read_bytes().splitlines(keepends=True)
    run.rewind(4)
    assert (run.path / METRICS).read_bytes() == b"".join(before[:4])
    for file in (SPEED, QUARANTINE, "ledger/rank-0.jsonl", "ledger/rank-1.jsonl"):
        assert [row["step"] for row in run.rows(file)] == [1, 2, 3, 4], file
    run.append(METRICS, {"step": 5})  # goes to the file that is there now
    assert [row["step"] for row in run.rows(METRICS)] == [1, 2, 3, 4, 5]
    run.rewind(0)
    assert list(run.rows(METRICS)) == []


def test_rewind_leaves_files_alone_of_which_nothing_goes(tmp_path):
    """A ledger of a long run is large, and there is one for each rank."""
    run = RunDirectory(str(tmp_path / "run"))
    for step in range(1, 7):
        run.append(METRICS, {"step": step})
        run.append("ledger/rank-0.jsonl", {"step": min(step, 4)})
    files = [run.path / METRICS, run.path / "ledger/rank-0.jsonl"]
    before = [path.stat().st_ino for path in files]
    run.rewind(4)
    after = [path.stat().st_ino for path in files]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True]
    assert [row["step"] for row in run.rows("ledger/rank-0.jsonl")] == [1, 2, 3, 4, 4, 4]


def test_no_checkpoint_is_begun_where_the_directory_was(tmp_path):
    run = RunDirectory(str(tmp_path / "run"))
    run.append(METRICS, {"step": 1})
    run.secure()
    run.path.rename(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="run' was moved or removed"):
        run.secure()


def test_a_torn_line_alone_is_dropped_even_if_it_is_json(tmp_path):
    run = RunDirectory(str(tmp_path))
    (run.path / METRICS).write_text('{"step": 1}\n{"step": 2}')
    run.rewind(9)
    assert (run.path / METRICS).read_text() == '{"step": 1}\n'


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    run = RunDirectory(str(tmp_path))
    (run.path / METRICS).write_text('{"step": 1}\nnonsense\n{"step": 3}\n')
    text = r"metrics.jsonl' holds a line that is no row with a step: 'nonsense\\n' \(line 2\)"
    with pytest.raises(InputError, match=f"{text}, which may be of a step up to 3, .* remove that line"):
        run.rewind(3)
    with pytest.raises(InputError, match=text):
        list(run.rows(METRICS))
    assert [row["step"] for row in run.rows(METRICS, damaged=True)] == [1, 3]


HOLE = b"\0" * 200 + b'{"step": 5}\n'


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (b'{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st\xffp": 4}\n{"step": 5}\n', 2),  # a damaged byte, no UTF-8
        (b'{"step": 1}\n{"step": 2}\n{"s4ep": 3}\n', 2),
        (b'{"step": 1}\n{"step": 2}\n' + HOLE + b'{"step": 6}\n', 2),  # a host died, and a later start went on
        (b'{"step": 1}\n' + HOLE, 1),  # rows that are not of each step
        (HOLE, 0),
    ],
)
def test_what_is_damaged_behind_the_checkpoint_is_dropped(tmp_path, caplog, content, left):
    run = RunDirectory(str(tmp_path))
    (run.path / METRICS).write_bytes(content)
    run.rewind(2)
    assert (run.path / METRICS).read_bytes().splitlines() == content.splitlines()[:left]
    assert "it and what follows it are dropped: the run goes on from step 2" in caplog.text


@pytest.mark.parametrize("bad", [b'{"st\xffp": 2}\n', HOLE, b"\n"])
def test_what_is_damaged_between_rows_that_must_stay_is_refused(tmp_path, bad):
    run = RunDirectory(str(tmp_path))
    content = b'{"step": 1}\n' + bad + b'{"step": 3}\n'
    (run.path / METRICS).write_bytes(content)
    with pytest.raises(InputError, match=r"metrics.jsonl' holds a line that is no row .* \(line 2\)"):
        run.rewind(3)
    assert (run.path / METRICS).read_bytes() == content


def test_config_and_results_survive(tmp_path):
    run = RunDirectory(str(tmp_path))
    assert run.frozen_config() is None
    assert run.results() is None
    config = {"tasks": {}, "a": 1, "b": {"c": [1.5, None, "x: y"], "d": {}}, "e": "1e-3", "f": True, "g": "null"}
    run.freeze_config(config, {"overrides": []})
    run.write_results(3, {"m": {"value": 0.5, "chance": 0.1}})
    assert RunDirectory(str(tmp_path), rank=1).frozen_config() == config
    assert run.results() == {"step": 3, "metrics": {"m": {"value": 0.5, "chance": 0.1}}}
    assert json.loads((tmp_path / "starts.jsonl").read_text()) == {"overrides": []}


def test_what_is_measured_less_often_stays_in_the_results_with_its_step(tmp_path):
    run = RunDirectory(str(tmp_path))
    run.write_results(4, {"a": {"value": 1.0}, "b": {"value": 2.0}}, {"a": ["first"], "b": ["other"]})
    run.write_results(6, {"a": {"value": 3.0}}, {"a": ["second"]}, whole=False)
    run.write_results(7, {}, {}, whole=False)
    found = run.results()
    assert found["step"] == 7
    assert found["metrics"] == {"a": {"step": 6, "value": 3.0}, "b": {"step": 4, "value": 2.0}}
    assert found["tables"] == {"a": ["second"], "b": ["other"]}
    assert "a (step 6)" in table(found["metrics"])
    run.write_results(8, {"a": {"value": 5.0}})
    assert run.results() == {"step": 8, "metrics": {"a": {"value": 5.0}}}


def test_results_of_before_the_checkpoint_stay_as_they_would_stand_without_the_kill(tmp_path):
    every = {"a": 10, "b": 100, "c": 1000}

    def measure(run, first, last):
        for step in range(first, last + 1, 10):
            due = [name for name, n in every.items() if step % n == 0]
            scores = {f"{name}/loss": {"value": step / every[name], "chance": 1.0} for name in due}
            run.write_results(step, scores, {name: [step] for name in due}, whole=len(due) == len(every))

    straight, killed = (RunDirectory(str(tmp_path / name)) for name in ("straight", "killed"))
    measure(straight, 10, 1110)
    for newest, checkpoint, kept in ((1040, 1000, "bc"), (1090, 1080, "bc"), (1110, 1100, "bc")):
        measure(killed, 10, newest)
        killed.rewind(checkpoint)
        found = killed.results()
        assert list(found["metrics"]) == [f"{name}/loss" for name in kept]
        assert list(found["tables"]) == list(kept)
        assert found["step"] == max(step for step in (1000, 1100) if step <= checkpoint)
        assert "step" not in found["metrics"]["b/loss"]
        measure(killed, checkpoint + 10, 1110)
        assert (killed.path / "results.json").read_bytes() == (straight.path / "results.json").read_bytes()
    assert found["metrics"]["c/loss"] == {"step": 1000, "value": 1.0, "chance": 1.0}
    killed.rewind(990)
    assert killed.results() is None
    assert not (killed.path / "results.json").exists()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"step": 3}'])
def test_damaged_results_are_taken_for_absent(tmp_path, text, caplog):
    run = RunDirectory(str(tmp_path))
    (tmp_path / "results.json").write_text(text)
    assert run.results() is None
    assert "results.json' is damaged" in caplog.text


def holder(path, then):
    program = f"""
        import os, sys, time
        from pretrain.run import RunDirectory
        run = RunDirectory({str(path)!r})
        {then}
        print("locked", flush=True)
        time.sleep(60)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() in ("locked\n", "child\n")
    return process


def test_lock_refuses_a_second_process_and_ends_with_the_first_and_not_with_its_workers(tmp_path):
    # A forked child, like a loader's worker, outlives its parent for some seconds.
    process = holder(
        tmp_path,
        # The child says itself that it is there: until it has run at all, it holds what its parent held.
        "child, part = run.path / 'child', run.path / 'part'\n"
        "        if os.fork() == 0:\n"
        "            part.write_text(str(os.getpid())); part.rename(child); time.sleep(30); os._exit(0)\n"
        "        while not child.exists(): time.sleep(0.01)",
    )
    child = int((tmp_path / "child").read_text())
    try:
        with pytest.raises(InputError, match=rf"in use by process {process.pid} on .*; give another run_dir"):
            RunDirectory(str(tmp_path))
        RunDirectory(str(tmp_path), rank=1)  # of the same group: takes no lock
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        os.kill(child, 0)  # is alive still
        RunDirectory(str(tmp_path))
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")
    finally:
        process.kill()
        process.stdout.close()
        os.kill(child, signal.SIGKILL)


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for path in (str(file), str(file / "below"), "/proc/self/nope"):
        with pytest.raises(InputError, match=f"run_dir '{path}' cannot be written: "):
            RunDirectory(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_named(tmp_path):
    RunDirectory(str(tmp_path / "run"))
    os.chmod(tmp_path / "run", 0o500)
    try:
        with pytest.raises(InputError, match="cannot be written"):
            RunDirectory(str(tmp_path / "run"))
    finally:
        os.chmod(tmp_path / "run", 0o700)

"""Three watchers beside a training, killed at random: each published checkpoint has one result, of its own weights."""

import json
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from pretrain import checkpoint
from pretrain.evaluation import results
from pretrain.evaluation.subject import digest_of
from tests.integration import runs
from tests.integration.runs import SMALL

STEPS, EVERY, KILLS = 600, 30, 8


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kept", ["all", "two"])
def test_three_watchers_killed_at_random(tmp_path, kept):
    run = tmp_path / "run"
    keep = f"checkpoint.keep_every_n_steps={EVERY if kept == 'all' else 'null'}"
    more = [f"max_steps={STEPS}", f"checkpoint.every_n_steps={EVERY}", "evaluate.every_n_steps=1000", "seed=3"]
    training = runs.start([f"run_dir={run}", *SMALL, *more, keep, "report.enabled=false"])
    log = open(tmp_path / "watchers.log", "w+")  # noqa: SIM115 - closed below
    watchers = [watcher(run, log) for _ in range(3)]
    draw, killed = random.Random(1), 0
    while killed < KILLS and len(results.all_of(run)) < STEPS // EVERY - 3:
        time.sleep(draw.uniform(1, 4))
        place = draw.randrange(3)
        assert all(one.poll() in (None, 0) for one in watchers)
        if watchers[place].poll() is None:
            watchers[place].send_signal(signal.SIGKILL)
            watchers[place].wait()
            watchers[place] = watcher(run, log)
            killed += 1
    assert killed >= 3
    assert runs.wait(training, 900) == 0
    ended = time.time()
    assert [one.wait() for one in watchers] == [0, 0, 0]
    log.seek(0)
    said = [int(step) for step in re.findall(r"^step (\d+): ", log.read(), re.MULTILINE)]
    log.close()
    assert len(said) == len(set(said))  # nobody evaluated what somebody else had
    assert min(taken_beside(run)) < ended  # they were at work while it trained
    there = {found["step"]: found["checkpoint"] for found in results.all_of(run)}
    left = {checkpoint.step_of(path): digest_of(path) for path in checkpoint.published(run / "checkpoints")}
    assert left.items() <= there.items()
    assert set(there) <= set(range(EVERY, STEPS + 1, EVERY))
    if kept == "all":
        assert list(there) == list(range(EVERY, STEPS + 1, EVERY))
    else:
        assert len(left) == 2  # what was pruned was let go of
    own = json.loads((run / "results.json").read_text())
    last = results.read(results.path_of(run, STEPS))
    assert own["metrics"] == last["metrics"]  # as the training itself measured at its end


def taken_beside(run):
    """When each result was written."""
    return [path.stat().st_mtime for path in (run / results.FOLDER).glob("step-*.json")]


def watcher(run, log):
    command = [
        sys.executable,
        "-m",
        "pretrain",
        "evaluate",
        str(run),
        "watch=true",
        "--every",
        "0.1",
        "--patience",
        "60",
    ]
    return subprocess.Popen([*command, "trainer.threads=1"], stderr=log)

"""Credentials that a run is given do not turn up in anything that it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faulty_store import FaultyStore
from tests.integration.runs import SMALL
from tests.marks import slow
from tests.processes import gone, told, until

SECRETS = {
    "password of a URL": "hunter22canary",
    "signature of a URL": "deadbeef0123canary",
    "token of a URL": "IQoJb3JpZ2luX2VjCanary",
    "value of the environment": "correct-horse-battery-canary",
    "AWS secret": "wJalrXUtnFEMIK7MDENGbPxRfiCYcanary",
    "AWS key": "AKIACANARYCANARY1234",
    "hub token": "hf_canarycanarycanarycanary",
    "tracker key": "0123456789abcdef0123456789abcdefcanary12",
    "under a name": "plainwordscanary",
}


@pytest.mark.parametrize("ending", ["done", "unreachable", "wrong input", slow("failure")])
def test_nothing_of_them_is_kept(shards, tokenizer_path, tmp_path: Path, ending: str) -> None:
    shards("own", 20, max_bytes=10**6)
    [held] = sorted((tmp_path / "shards").glob("own-*.tar"))
    small = [one for one in SMALL if one.startswith(("max_steps", "trainer", "evaluate", "encoders.text", "schedule"))]
    # A cache folder of its own holds shards by their name, which is not part of what a run leaves.
    environment = {
        "WANDB_API_KEY": SECRETS["tracker key"],
        "AWS_SECRET_ACCESS_KEY": SECRETS["AWS secret"],
        "AWS_ACCESS_KEY_ID": SECRETS["AWS key"],
        "HF_TOKEN": SECRETS["hub token"],
        "MY_SERVICE_TOKEN": SECRETS["value of the environment"],
    }
    with FaultyStore(tmp_path / "shards") as store:
        host = store.url.removeprefix("http://")
        url = (
            f"http://alice:{SECRETS['password of a URL']}@{host}/okay/{held.name}"
            f"?X-Amz-Signature={SECRETS['signature of a URL']}&X-Amz-Security-Token={SECRETS['token of a URL']}"
        )
        arguments = [
            *("experiment=mlm_tiny", "data=shards", f"data.tokenizer={tokenizer_path}", "data.vocab_size=300"),
            *(f"'data.train=\"{url}\"'".strip("'"), "data.heldout=null", *small, "checkpoint.every_n_steps=4"),
            *("tasks.mlm.batch_size=4", "tasks.mlm.prepare.max_tokens=24", "loader.workers=1"),
            *("logger=auto", "logger.wandb.mode=offline", "logger.wandb.project=${oc.env:MY_SERVICE_TOKEN}"),
            *(f"+data.hub.password={SECRETS['under a name']}", f"name={SECRETS['AWS key']}"),
            *(f"cache.folder={tmp_path / 'cache'}", f"run_dir={tmp_path / 'run'}"),
        ]
        if ending == "unreachable":  # a tracker that cannot be reached says where it wanted to go
            arguments[arguments.index("logger.wandb.mode=offline")] = "logger.wandb.mode=online"
            server = f"http://alice:{SECRETS['password of a URL']}@127.0.0.1:9"
            environment["WANDB_BASE_URL"] = f"{server}/?token={SECRETS['token of a URL']}"
        if ending == "wrong input":
            arguments += [f"optimizer.{SECRETS['hub token']}=1"]
        if ending == "failure":
            arguments += ["optimizer.lr=1e38", "tasks.mlm.weight=1e38", "sick.nonfinite=stop"]
        done = subprocess.run(
            [sys.executable, "-m", "pretrain", *arguments],
            capture_output=True,
            timeout=240,
            check=False,
            env={**os.environ, **environment, "OMP_NUM_THREADS": "1", "PRETRAIN_TRACEBACK": ""},
        )
    _wait_for_mirrors(tmp_path / "run")
    assert done.returncode == {"done": 0, "unreachable": 0, "wrong input": 2, "failure": 1}[ending], (
        done.stderr.decode()[-3000:]
    )
    left = [path for path in tmp_path.rglob("*") if path.is_file() and tmp_path / "shards" not in path.parents]
    found = [(path.relative_to(tmp_path), what) for path in left for what in leaks(path.read_bytes())]
    found += [(name, what) for name in ("stdout", "stderr") for what in leaks(getattr(done, name))]
    assert found == []
    if ending == "unreachable":
        assert "wandb cannot be reached" in (tmp_path / "run/trackers/wandb.log").read_text()
    if ending == "done":
        kept = {path.name for path in left}
        assert {"config.yaml", "starts.jsonl", "state.json", "log.txt", "metrics.jsonl"} <= kept
        assert any(path.suffix == ".wandb" for path in left)
        assert any("tfevents" in path.name for path in left)
        assert "trackers" in {path.parent.name for path in left}
        assert b"http://***@" in (tmp_path / "run/config.yaml").read_bytes()


def _wait_for_mirrors(run: Path) -> None:
    """Returns when no mirror of the run is left: one may say why it ended after it has let go of its lock."""
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    mirrors = [pid for pid in pids if os.fsencode(run) in told(pid, "cmdline").split(b"\0")]
    until(lambda: all(map(gone, mirrors)))


def leaks(content: bytes) -> list[str]:
    return [what for what, secret in SECRETS.items() if secret.encode() in content]

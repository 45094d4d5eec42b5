"""``pretrain checkpoints list|verify|prune|doctor|digest``."""

import json
import os
import shutil

import pytest
import torch

from data.errors import InputError
from pretrain import checkpoint
from pretrain.checkpoint import Content, inspection
from pretrain.run import RunDirectory
from pretrain.verbs.checkpoints import main


@pytest.fixture
def run(tmp_path):
    for step in range(1, 6):
        facts = {"step": step, "positions": {"t": step}, "schedule": {"name": "Constant"}}
        facts["held_out"] = {"mlm/loss": abs(step - 2.0)}
        checkpoint.publish(tmp_path / "checkpoints", Content({"w": torch.full((4,), float(step))}, {}, facts, {}))
    checkpoint.mark(tmp_path / "checkpoints")
    return tmp_path


def freeze(run, **changes):
    best = {"count": 0, "metric": None, "mode": "min"}
    options = {"every_n_steps": 1, "keep_last": 2, "keep_every_n_steps": None, "keep_best": best} | changes
    directory = RunDirectory(str(run))
    directory.freeze_config({"tasks": {}, "checkpoint": options}, {"step": 0})


def spoil(run, step):
    file = run / "checkpoints" / checkpoint.directory_name(step) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def answer(capsys, *arguments):
    code = main([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_list_and_verify(run, capsys):
    assert main(["list", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [f"step-0000000{step}" for step in (5, 4, 3, 2, 1)]
    assert lines[0].endswith("sound  mlm/loss 3")
    assert main(["verify", str(run)]) == 0
    spoil(run, 4)
    assert main(["list", str(run)]) == 0
    capsys.readouterr()
    code, found = answer(capsys, "verify", run)
    assert code == 1
    bad = [one for one in found["checkpoints"] if one["state"] != "sound"]
    assert [(one["step"], one["state"]) for one in bad] == [(4, "damaged")]
    assert "bytes instead of" in bad[0]["why"]
    assert answer(capsys, "verify", run / "checkpoints/step-00000005")[0] == 0
    assert answer(capsys, "verify", run / "checkpoints/step-00000004")[0] == 1
    with pytest.raises(InputError, match="holds no checkpoint"):
        main(["list", str(run / "checkpoints")])
    for verb in ("list", "verify", "prune", "doctor", "digest"):
        with pytest.raises(InputError, match="'nowhere' does not exist"):
            main([verb, "nowhere"])


def test_what_a_run_removes_meanwhile_is_not_damaged(run, capsys, monkeypatch):
    class Slow(inspection.Reader):
        def __init__(self, path):
            for step in (1, 2):
                shutil.rmtree(run / "checkpoints" / checkpoint.directory_name(step), ignore_errors=True)
            super().__init__(path)

    monkeypatch.setattr(inspection, "Reader", Slow)
    code, found = answer(capsys, "verify", run)
    assert code == 0
    assert [one["step"] for one in found["checkpoints"]] == [5, 4, 3]


def test_doctor_says_why_and_what_a_start_would_do(run, capsys):
    code, found = answer(capsys, "doctor", run)
    assert code == 0
    assert found["advice"] == ["the same command goes on from step-00000005"]
    spoil(run, 5)
    shutil.rmtree(run / "checkpoints/step-00000001")
    (run / "checkpoints/.step-00000009.part").mkdir()
    checkpoint.set_aside(run / "checkpoints/step-00000003")
    code, found = answer(capsys, "doctor", run)
    assert code == 1
    states = {one["name"]: one["state"] for one in found["checkpoints"]}
    assert states == {
        "step-00000005": "damaged",
        "step-00000004": "sound",
        "step-00000002": "sound",
        "damaged-step-00000003": "set aside",
        ".step-00000009.part": "unfinished",
    }
    first, second, third, fourth = found["advice"]
    assert first == "the same command goes on from step-00000004"
    assert second == "it renames step-00000005 to damaged-*, and does the steps after 4 again"
    assert "does not name step-00000004" in third
    assert fourth.startswith("1 unfinished")
    assert main(["doctor", str(run)]) == 1
    assert "the same command goes on from step-00000004" in capsys.readouterr().out


def test_doctor_of_a_run_that_has_lost_all(run, capsys):
    for step in range(1, 6):
        spoil(run, step)
    assert "refuses to go on" in answer(capsys, "doctor", run)[1]["advice"][0]
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    assert "refuses to go on" in answer(capsys, "doctor", run)[1]["advice"][0]
    (run / "published").unlink()
    assert "begins at step 0" in answer(capsys, "doctor", run)[1]["advice"][0]


def test_prune_by_config_and_by_options(run, capsys):
    freeze(run, keep_best={"count": 1, "metric": "mlm/loss", "mode": "min"})
    code, found = answer(capsys, "prune", run, "--dry-run")
    assert code == 0
    assert found["removed"] == ["step-00000003", "step-00000001"]
    assert len(checkpoint.published(run / "checkpoints")) == 5
    assert answer(capsys, "prune", run)[1]["kept"] == ["step-00000005", "step-00000004", "step-00000002"]
    assert main(["prune", str(run), "--keep-last", "1", "--keep-best", "0", "--keep-every", "4"]) == 0
    assert "step-00000002  removed" in capsys.readouterr().out
    assert [checkpoint.step_of(p) for p in checkpoint.published(run / "checkpoints")] == [5, 4]
    for wrong in (["--keep-last", "0"], ["--keep-every", "-1"], ["--keep-best", "-1"]):
        with pytest.raises(InputError, match=wrong[0]):
            main(["prune", str(run), *wrong])


def test_prune_leaves_a_run_alone_that_is_going(run):
    freeze(run)
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        directory = RunDirectory(str(run))
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        del directory
        os._exit(0)
    os.read(ready[0], 1)
    with pytest.raises(InputError, match=f"is in use by process {pid}"):
        main(["prune", str(run), "--keep-last", "1"])
    assert len(checkpoint.published(run / "checkpoints")) == 5
    os.write(go[1], b"x")
    assert os.waitpid(pid, 0)[1] == 0


def test_prune_of_one_checkpoint_leaves_it_as_it_was(run):
    one = checkpoint.published(run / "checkpoints")[0]
    before = sorted(path.name for path in one.iterdir())
    with pytest.raises(InputError, match="is one checkpoint; prune takes the run directory"):
        main(["prune", str(one), "--keep-last", "1"])
    assert sorted(path.name for path in one.iterdir()) == before
    assert len(checkpoint.published(run / "checkpoints")) == 5


def test_prune_of_no_run(run):
    with pytest.raises(InputError, match="the run's config does not say"):
        main(["prune", str(run)])
    with pytest.raises(InputError, match="a run directory or a step-XXXXXXXX folder is expected"):
        main(["prune", str(run / "nowhere")])
    assert not (run / "nowhere").exists()


def test_digest(run, capsys):
    assert main(["digest", str(run)]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line == {"step": 5, "sha256": checkpoint.digest(checkpoint.find(run))}

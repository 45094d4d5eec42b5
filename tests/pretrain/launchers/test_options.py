import pytest

from data.errors import InputError
from pretrain import config
from pretrain.launchers.options import check_time


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["launcher=slrm"], "launcher 'slrm' does not exist; did you mean 'slurm'"),
        (["launcher=slurm", "launcher.tim=3"], "unknown key 'launcher.tim'; did you mean 'launcher.time'"),
        (["launcher=slurm", "+launcher.tim=3"], "unknown key 'launcher.tim'; did you mean 'time'"),
        (["launcher.partition=x"], "unknown key 'launcher.partition'"),
        (["launcher.kind=k8s"], "launcher.kind 'k8s' is not there; choices: local, slurm, torchrun"),
        (["launcher=slurm", "launcher.time=30:00"], "launcher.time=30:00 is no time limit"),
        (["launcher=slurm", "launcher.signal_before_s=x"], "launcher.signal_before_s: Value 'x'"),
        (["launcher=slurm", "launcher.at_once=0"], "launcher.at_once=0 is too small; it must be at least 1"),
        (["launcher=slurm", "launcher.partition='a\nb'"], "launcher.partition='a.nb' is no single word"),
        (["launcher=slurm", "launcher.options=['--a\nb']"], "launcher.options: '--a.nb' is no option"),
        (["launcher=torchrun", "launcher.rendezvous='h:1|evil'"], "launcher.rendezvous='h:1.evil' is no HOST:PORT"),
        (["launcher=torchrun", "launcher.rendezvous='h:a'"], "launcher.rendezvous='h:a' is no HOST:PORT"),
        (["launcher=torchrun", "launcher.max_restarts=-1"], "launcher.max_restarts=-1 is too small"),
    ],
)
def test_wrong_keys_and_values_are_named(overrides, message):
    with pytest.raises(InputError, match=message):
        config.load(overrides)


@pytest.mark.parametrize("key", ["setup", "options", "srun_options"])
def test_what_runs_code_is_for_the_command_line_to_say(tmp_path, key):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/evil.yaml").write_text(
        "# @package _global_\ndefaults:\n  - mlm_tiny\n  - override /launcher: slurm\n  - _self_\n"
        f"launcher: {{{key}: ['--touch canary']}}\n"
    )
    with pytest.raises(InputError, match=f"launcher.{key} is set by a config file"):
        config.load(["experiment=evil"], str(tmp_path))
    assert config.load([f"launcher.{key}=['--x']", "experiment=evil"], str(tmp_path))["launcher"][key] == ["--x"]


@pytest.mark.parametrize(("limit", "fits"), [("0:06:00", False), ("0:06:01", True), ("1-00:00:00", True), (None, True)])
def test_a_job_is_not_warned_as_it_begins(limit, fits):
    options = {"time": limit, "signal_before_s": 300}
    if fits:
        check_time(options)
    else:
        with pytest.raises(InputError, match=r"launcher\.time=0:06:00 leaves no time to train"):
            check_time(options)

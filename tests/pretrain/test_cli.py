import os
import resource
import subprocess
import sys

import pytest

from pretrain import checkpoint, resolvers
from pretrain.cli import main
from pretrain.run import RunDirectory

TINY = [
    "data=shards",
    "max_steps=2",
    "loader.workers=0",
    "trainer.threads=1",
    "trainer.accelerator=cpu",
    *(f"encoders.text.{key}" for key in ("width=16", "depth=1", "heads=2")),
]


def own(tokenizer):
    return [f"data.folder={os.path.dirname(tokenizer)}", f"data.tokenizer={tokenizer}", "data.vocab_size=300"]


def python(*arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=120, **options
    )


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Calls the command line and returns its one line of error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        assert main(list(arguments)) == 2
        said = capsys.readouterr()
        lines = [line for line in said.err.splitlines() if line.startswith("pretrain: error: ")]
        assert len(lines) == 1
        assert said.err.endswith(lines[0] + "\n")
        assert "Traceback" not in said.err
        return lines[0].removeprefix("pretrain: error: ")

    return call


@pytest.fixture
def mlm(tokenizer_path, tmp_path):
    def arguments(source, *more):
        run = f"run_dir={tmp_path / 'run'}"
        data = [*own(tokenizer_path), f"tasks.mlm.source={source}", "tasks.mlm.heldout=null"]
        return ["experiment=mlm_tiny", *TINY, "tasks.mlm.batch_size=4", run, *data, *more]

    return arguments


@pytest.fixture
def clip(tokenizer_path, tmp_path):
    def arguments(source, *more):
        run = f"run_dir={tmp_path / 'run'}"
        data = [*own(tokenizer_path), f"tasks.clip.source={source}", "tasks.clip.heldout=null"]
        return ["experiment=clip_tiny", *TINY, "tasks.clip.batch_size=4", run, *data, *more]

    return arguments


def test_help_is_quick_and_imports_no_torch():
    heavy = ("torch", "pytorch_lightning", "wandb", "torchvision", "torchaudio")
    program = f"import sys, pretrain.cli as c; c.main(['--help']); print(sorted(set({heavy}) & sys.modules.keys()))"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = python("-c", program)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "pretrain shards" in done.stdout
    assert "grounded_tiny" in done.stdout
    # Processor time, which other processes on these cores do not lengthen.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


@pytest.mark.parametrize(
    "arguments",
    [
        ["max_step=3"],
        ["--wrong"],
        ["trian"],
        ["checkpoints", "verify", "nowhere"],
        ["checkpoints", "digest", "~nobody-of-this-name/run"],
    ],
)
def test_wrong_input_ends_a_real_process_with_code_2_and_one_line(arguments, tmp_path):
    done = python("-m", "pretrain", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("pretrain: error: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_traceback_is_shown_when_asked_for():
    done = python("-m", "pretrain", "max_step=3", "--traceback")
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "did you mean 'max_steps'?" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--wrong"], "unknown option '--wrong'; options: --help"),
        (["--cfg"], "--cfg needs a value"),
        (["--cfg", "hydra"], "--cfg 'hydra' is unknown; choices: job"),
        (["--config-dir", "/nope"], "--config-dir '/nope' is not a folder"),
        (["trian"], "'trian' is neither a verb (shards, checkpoints"),
        (["trainer.strategy=dpp", "experiment=mlm_tiny"], "trainer.strategy 'dpp'"),
        (["max_steps=0"], "max_steps=0 is too small; it must be at least 1"),
        (["checkpoint.every_n_steps=0"], "checkpoint.every_n_steps=0 is too small"),
        (["trainer.devices=0"], "trainer.devices=0 is too small"),
        (["tasks.mlm.batch_size=0"], "tasks.mlm.batch_size=0 is too small"),
        (["gradient_clip_norm=0"], "gradient_clip_norm=0.0 must be above 0, or null"),
        (["trainer.precision=16-mixed"], "trainer.precision '16-mixed' is not there"),
        (["resume=runs/a", "init_from=runs/b"], "resume and init_from exclude one another"),
        (["resume=true"], "resume=True names no run; a run goes on where it stands by itself (resume=auto)"),
        (["experiment=clm_tiny", "data=shards", "data.folder=/nope"], "nor a folder '/nope' (data.folder)"),
        (["checkpoints", "digest", "nowhere"], "'nowhere' does not exist"),
    ],
)
def test_wrong_options_are_named(refused, shards, mlm, arguments, message):
    if "experiment=mlm_tiny" in arguments:
        arguments = mlm(shards("own"), *arguments)
    assert message in refused(*arguments)


def test_settings_that_do_not_fit_are_told_at_once_and_leave_no_run(capsys, shards, mlm, tmp_path):
    given = ["schedule.warmup_steps=-5", "evaluate.ema=true", "checkpoint.keep_best.count=2", f"run_dir={tmp_path}/new"]
    assert main([*mlm(shards("own")), *given]) == 2
    lines = [line.removeprefix("pretrain: error: ") for line in capsys.readouterr().err.splitlines()]
    expected = ("schedule: warmup_steps=-5", "evaluate.ema=true needs", "checkpoint.keep_best.count needs")
    assert [line.startswith(start) for line, start in zip(lines, expected, strict=True)] == [True] * 3
    assert not (tmp_path / "new").exists()


def test_shards_that_are_not_there_or_hold_nothing(refused, mlm, shards, tmp_path):
    assert refused(*mlm(tmp_path / "none-*.tar")).startswith(
        f"source 'mlm': shards '{tmp_path}/none-*.tar' match nothing: "
    )
    assert "tasks.mlm.source is not given" in refused(*mlm("null"))
    (tmp_path / "empty.tar").write_bytes(b"\0" * 10240)
    assert f"source 'mlm': shard '{tmp_path}/empty.tar' is empty" in refused(*mlm(tmp_path / "empty.tar"))
    (tmp_path / "junk.tar").write_bytes(b"no tar at all" * 100)
    assert "junk.tar' is empty (no tar header at byte 0 " in refused(*mlm(tmp_path / "junk.tar"))


@pytest.mark.parametrize(("members", "lacking"), [(("txt",), "image"), (("png",), "text")])
def test_a_missing_image_or_caption_is_named_with_its_sample(refused, clip, shards, members, lacking):
    said = refused(*clip(shards("pairs", 3, members)))
    assert "3 of 3 samples of" in said
    assert f"have no {lacking} member" in said
    assert f"'pairs-00000' has: {members[0]}" in said


def test_tasks_and_encoders_that_do_not_fit(refused, clip, mlm, shards):
    source = shards("pairs", 8, ("png", "txt"))
    assert "side 'a' is prepared as image, but its encoder 'text' takes text" in refused(
        *clip(source, "tasks.clip.encoders.a=text")
    )
    assert "encoders.text.vocab_size=290; set data.vocab_size=300" in refused(
        *mlm(source, "encoders.text.vocab_size=290")
    )
    assert "tasks.mlm.micro_batch_size=-1 is too small" in refused(*mlm(source, "tasks.mlm.micro_batch_size=-1"))


def test_run_directory_in_use_or_not_writable(refused, mlm, shards, tmp_path):
    source = shards("own")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(*mlm(source, f"run_dir={tmp_path / 'file'}"))
    program = (
        "import time; from pretrain.run import RunDirectory\n"
        f"run = RunDirectory({str(tmp_path / 'run')!r}); print('ok', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"ok\n"
        assert f"is in use by process {holder.pid} on " in refused(*mlm(source))
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_a_run_continues_and_refuses_another_model_order_or_tokenizer(refused, mlm, shards, tmp_path, vocab_size):
    from modalities.text import tokenizer

    source = shards("own")
    assert main(mlm(source)) == 0
    assert checkpoint.find(tmp_path / "run").step == 2
    assert main(mlm(source, "max_steps=3")) == 0
    assert [row["step"] for row in RunDirectory(str(tmp_path / "run"), 1).rows("metrics.jsonl")] == [1, 2, 3]
    more = ["max_steps=5"]
    assert "encoders.text.width was 16 and is 32 now, which changes the model" in refused(
        *mlm(source, *more, "encoders.text.width=32")
    )
    assert "seed was 0 and is 1 now" in refused(*mlm(source, *more, "seed=1"))
    other = tmp_path / "other.json"
    tokenizer.train(["another text altogether"], vocab_size - 20).save(str(other))
    assert "the tokenizer of encoder 'text' is not the one of" in refused(
        *mlm(source, *more, f"data.tokenizer={other}")
    )
    assert "source 'mlm' has other shards than the run was made with" in refused(*mlm(shards("others", 30), *more))
    said = refused(
        *mlm(source, *more, "encoders.text.width=32", "allow_changes=[encoders.text.width,tasks.mlm.objective.width]")
    )
    assert "another model size" in said


def test_an_own_experiment_with_an_unknown_key(refused, tmp_path, monkeypatch):
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [mlm_tiny]\nmax_step: 3\n"
    )
    (tmp_path / "own").rename(tmp_path / "o'wn dir")
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in (["--config-dir", "o'wn dir"], ["--config-dir=o'wn dir"], ["--config-dir=~/o'wn dir"]):
        assert refused("experiment=mine", *given).startswith("unknown key 'max_step'; did you mean 'max_steps'?")


def test_a_folder_of_data_may_have_brackets_in_its_name(tmp_path, shards):
    folder = tmp_path / "books [2024]"
    folder.mkdir()
    assert resolvers.below(str(folder), "*-train-*.tar") == f"{tmp_path}/books [[]2024]/*-train-*.tar"
    assert resolvers.below(str(folder), "tokenizer.json") == f"{folder}/tokenizer.json"
    assert resolvers.below("s3://a/[b]", "*.tar") == "s3://a/[b]/*.tar"
    assert resolvers.below(None, "x") is None


def test_composed_config_is_printed(capsys):
    assert main(["--cfg", "job", "experiment=mlm_tiny", "seed=7"]) == 0
    said = capsys.readouterr().out
    assert "seed: 7" in said
    assert "${" not in said


def test_a_printed_config_holds_no_credentials(capsys):
    canary = "https://me:correct-horse@host/a.tar?X-Amz-Signature=battery-staple"
    assert main(["--cfg", "job", "experiment=mlm_tiny", f"init_from='{canary}'"]) == 0
    said = capsys.readouterr().out
    assert "host/a.tar" in said
    assert "correct-horse" not in said
    assert "battery-staple" not in said

import copy

import pytest

from data.errors import InputError
from pretrain import config, resume


@pytest.fixture(scope="module")
def frozen():
    return config.load(["experiment=grounded_tiny"])


def check(frozen, *overrides, allowed=()):
    return resume.check_config(frozen, config.load(["experiment=grounded_tiny", *overrides]), list(allowed))


@pytest.mark.parametrize(
    "override",
    [
        "max_steps=500",
        "run_dir=elsewhere",
        "optimizer.lr=0.1",
        "gradient_clip_norm=null",
        "loader.workers=0",
        "micro_batch_size=4",
        "tasks.mlm.weight=2",
        "tasks.mlm.heldout=null",
        "trainer.precision=bf16-mixed",
        "checkpoint.keep_last=5",
        "data.root=/moved",
        "tokenizer=/moved/tokenizer.json",
        "tasks.clip.prepare.b.tokenizer=/moved/tokenizer.json",
        "data.text.train.prose.pattern=/moved/prose-*.tar",
        "~evaluators.image_audio",
    ],
)
def test_what_changes_neither_model_nor_order_is_shown_and_free(frozen, override):
    lines = check(frozen, override)
    assert lines
    assert all(line.startswith("changed: ") for line in lines)


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("encoders.text.width=64", "the model"),
        ("+encoders.image.norm=post", "the model"),
        ("tasks.clip.objective.embed_dim=64", "the model"),
        ("tasks.mlm.encoders.text=other", "the model"),
        ("seed=1", "the order of data"),
        ("tasks.mlm.batch_size=8", "the order of data"),
        ("tasks.mlm.prepare.max_tokens=64", "the order of data"),
        ("tasks.clip.prepare.a.scale=[0.5,1.0]", "the order of data"),
    ],
)
def test_what_changes_model_or_order_is_refused_unless_told(frozen, override, what):
    key = override.lstrip("+").split("=")[0]
    with pytest.raises(
        InputError, match=rf"^{key} was .* which changes {what} of the run.*; .*allow_changes=\[{key}"
    ) as caught:
        check(frozen, override)
    assert "\n" not in str(caught.value)
    changed = str(caught.value).split("allow_changes=[")[1].rstrip("]").split(",")
    assert check(frozen, override, allowed=changed)


def test_other_weights_in_a_mixture_are_another_order(frozen):
    with pytest.raises(
        InputError, match=r"^tasks.mlm.source.prose.weight was 0.5 and is 3 now, which changes the order"
    ):
        check(frozen, "data.text.train.prose.weight=3")
    assert check(frozen, "data.text.train.prose.weight=3", allowed=["tasks.mlm.source"])


def test_tasks_that_come_or_go_are_refused_and_allowed_as_a_whole(frozen):
    for override in ("~tasks.clap", "+task@tasks.clm=clm"):
        with pytest.raises(
            InputError, match=r"the order of data.*\[tasks.cl(ap|m)\]$|the model.*\[tasks.cl(ap|m)\]$"
        ) as caught:
            check(frozen, override)
        task = str(caught.value).split("allow_changes=[")[1].rstrip("]")
        assert check(frozen, override, allowed=[task])


def test_the_suggestion_keeps_what_is_allowed_already(frozen):
    with pytest.raises(InputError, match=r"allow_changes=\[seed,tasks.mlm.batch_size\]"):
        check(frozen, "seed=3", "tasks.mlm.batch_size=8", allowed=["seed"])


def test_an_unchanged_config_says_nothing(frozen):
    assert resume.check_config(frozen, copy.deepcopy(frozen), []) == []


def test_shard_lists(frozen):
    old = {"mlm.prose": "1", "mlm.captions": "2", "clip": "3"}
    resume.check_data(old, dict(reversed(old.items())), [])
    changes = (old | {"mlm.prose": "9"}, {"mlm.prose": "1", "clip": "3"}, old | {"mlm.more": "4"})
    for new in changes:
        with pytest.raises(InputError, match=r"source 'mlm\.\w+' has other shards .*allow_changes=\[data\]"):
            resume.check_data(old, new, [])
        resume.check_data(old, new, ["data"])
        resume.check_data(old, new, ["tasks.mlm"])  # the task itself may change
        with pytest.raises(InputError):
            resume.check_data(old, new, ["tasks.clip"])


def test_tokenizers():
    resume.check_tokenizers("runs/a", {"text": "a" * 64}, {"text": "a" * 64, "more": "b" * 64}, [])
    with pytest.raises(
        InputError,
        match=r"encoder 'text' is not the one of 'runs/a' \(SHA-256 bbbbbbbbbbbb instead of aaaaaaaaaaaa\)",
    ):
        resume.check_tokenizers("runs/a", {"text": "a" * 64}, {"text": "b" * 64}, [])
    resume.check_tokenizers("runs/a", {"text": "a" * 64}, {"text": "b" * 64}, ["tokenizer"])

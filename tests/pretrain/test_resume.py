import copy

import pytest

from data.errors import InputError
from data.stream import Stream
from pretrain import config, listings, resume


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
        "logger=none",
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


def test_names_of_sources_may_have_dots():
    old, new = ({"tasks": {"mlm": {"source": {"c4.en": {"weight": weight}}}}} for weight in (1.0, 3.0))
    changes = resume.split_changes(old, new)
    assert changes == {"tasks.mlm.source.c4.en.weight": ("order", 1.0, 3.0)}


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

    def check(new, allowed):
        resume.check_data(old, new, allowed, lambda name: "1 new (b.tar)" if name == "mlm.prose" else None)

    check(dict(reversed(old.items())), [])
    changes = (
        (
            old | {"mlm.prose": "9"},
            r"source 'mlm.prose' has other shards than the run was made with: 1 new \(b.tar\), ",
        ),
        (old | {"mlm.captions": "9"}, "has other shards than the run was made with: names, sample counts or sizes, "),
        ({"mlm.prose": "1", "clip": "3"}, "source 'mlm.captions' is not there any more, "),
        (old | {"mlm.more": "4"}, "source 'mlm.more' is new, "),
        ({"mlm.prose": "2", "mlm.captions": "1", "clip": "3"}, r"\(and 1 more sources changed\), "),
    )
    for new, what in changes:
        with pytest.raises(
            InputError, match=what + r"which changes the order of data; .* allow_changes=\[data\] to go on"
        ):
            check(new, [])
        check(new, ["data"])
        check(new, ["tasks.mlm"])  # the task itself may change
        with pytest.raises(InputError):
            check(new, ["tasks.clip"])


def test_differences_of_shard_lists_are_named(tmp_path, shards):
    old = [("a.tar", 10, 100), ("b.tar", 10, 100), ("c.tar", 5, 50)]
    new = [("a.tar", 10, 100), ("b.tar", 11, 110), *((f"n{n}.tar", 1, 1) for n in range(5))]
    assert listings.difference(old, new) == (
        "5 new (n0.tar, n1.tar, n2.tar and 2 more), 1 missing (c.tar), "
        "1 changed (b.tar had 10 samples in 100 bytes and has 11 samples in 110 bytes)"
    )
    assert listings.difference(old, old[::-1]) == "the same shards in another order"
    stream = Stream("t", shards("a", 7), 0)
    listings.keep(tmp_path, {"t": stream})
    assert listings.kept(tmp_path, "t", stream.fingerprint()["t"]) == stream.sources[0].listing()
    assert listings.kept(tmp_path, "t", "0" * 64) is None


def test_tokenizers():
    resume.check_tokenizers("runs/a", {"text": "a" * 64}, {"text": "a" * 64, "more": "b" * 64}, [])
    with pytest.raises(
        InputError,
        match=r"encoder 'text' is not the one of 'runs/a' \(SHA-256 bbbbbbbbbbbb instead of aaaaaaaaaaaa\)",
    ):
        resume.check_tokenizers("runs/a", {"text": "a" * 64}, {"text": "b" * 64}, [])
    resume.check_tokenizers("runs/a", {"text": "a" * 64}, {"text": "b" * 64}, ["tokenizer"])


def test_a_list_is_told_by_what_it_lacks_and_has():
    def changed(before, after):
        old, new = ({"tasks": {"t": {"objective": {"labels": labels}}}} for labels in (before, after))
        with pytest.raises(InputError) as caught:
            resume.check_config(old, new, [])
        return str(caught.value).partition(", which changes the model")[0]

    place = "tasks.t.objective.labels"
    assert changed(["a", "b"], ["a", "c"]) == f"{place} lacks 'b' and has the new 'c'"
    assert changed(["a", "b"], ["b", "a"]) == f"{place} is in another order"
    assert changed(["a"], list("abcdefgh")) == f"{place} has the new 'b', 'c', 'd', 'e', 'f' and 2 more"

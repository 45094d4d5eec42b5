import pytest
import torch

from data.errors import InputError
from pretrain import config
from pretrain.model import build_model, tokenizers

SMALL = ["encoders.text.width=16", "encoders.text.depth=1", "encoders.text.heads=2"]


@pytest.fixture
def build(tokenizer_path):
    def make(*overrides, experiment="mlm_tiny"):
        given = [f"experiment={experiment}", f"data.tokenizer={tokenizer_path}", "data.vocab_size=300", *overrides]
        return build_model(config.load(given))

    return make


def test_each_part_begins_the_same_whatever_else_is_trained(build):
    alone, seeded = build(), build("seed=1")
    together = build(experiment="grounded_tiny")
    ours, theirs = alone.state_dict(), together.state_dict()
    assert ours.keys() < theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not torch.equal(
        ours["encoders.text.token_embedding.weight"], seeded.state_dict()["encoders.text.token_embedding.weight"]
    )
    without = build("~tasks.mlm", experiment="grounded_tiny").state_dict()
    assert all(torch.equal(without[name], theirs[name]) for name in without)
    assert not any(name.startswith("objectives.mlm") for name in without)


def test_tasks_share_projections_and_tokenizers(build):
    model = build(experiment="grounded_tiny")
    assert [list(model.encoders[name].projections) for name in ("text", "image", "audio")] == [["128"]] * 3
    assert list(tokenizers(model)) == ["text"]


CONTRASTIVE = "tasks.clip.encoders"


@pytest.mark.parametrize(
    ("experiment", "overrides", "message"),
    [
        (
            "clip_tiny",
            [f"{CONTRASTIVE}.a=text"],
            "tasks.clip: side 'a' is prepared as image, but its encoder 'text' takes text",
        ),
        (
            "clip_tiny",
            [f"{CONTRASTIVE}.b=image"],
            "tasks.clip: side 'b' is prepared as text, but its encoder 'image' takes image",
        ),
        ("clip_tiny", [f"{CONTRASTIVE}.a=imag"], "tasks.clip.encoders.a is 'imag'; did you mean 'image'?"),
        ("clip_tiny", [f"~{CONTRASTIVE}.a"], "tasks.clip.encoders names the sides b; Contrastive has: a, b"),
        ("clip_tiny", [f"+{CONTRASTIVE}.c=text"], "names the sides a, b, c"),
        (
            "clip_tiny",
            ["tasks.clip.objective._target_=pretrain.optim.schedules.Constant"],
            "unknown key 'tasks.clip.objective",
        ),
        (
            "mlm_tiny",
            ["+encoder@encoders.image=image_tiny", "tasks.mlm.encoders.text=image"],
            "side 'text' takes a text encoder, but 'image' is an image encoder",
        ),
        (
            "mlm_tiny",
            ["tasks.mlm.objective.width=64"],
            "tasks.mlm: the objective has width=64, its text encoder width=128",
        ),
        (
            "mlm_tiny",
            ["encoders.text.vocab_size=299"],
            "has 300 entries, but encoders.text.vocab_size=299; set data.vocab_size=300",
        ),
        ("mlm_tiny", ["~tasks.mlm"], "tasks is empty"),
        ("mlm_tiny", ["+task@tasks.train=mlm"], "tasks: 'train' cannot be a name here"),
        ("mlm_tiny", ["+encoder@encoders.type=image_tiny"], "encoders: 'type' cannot be a name here"),
        ("clm_tiny", ["encoders.text.causal=false"], "tasks.clm: causal-LM needs a causal text encoder"),
        ("mlm_tiny", ["+encoders.text.causal=true"], "tasks.mlm: masked-LM needs a text encoder that sees both sides"),
        ("mlm_tiny", ["encoders.text={_target_: torch.nn.Linear, in_features: 2, out_features: 2}"], "encoders.text"),
        (
            "mlm_tiny",
            [
                "tasks.mlm.prepare={_target_: modalities.prepare.Sides, "
                "a: {_target_: modalities.image.prepare.ImagePrepare, image_size: 8}}"
            ],
            "tasks.mlm.prepare",
        ),
        (
            "clip_tiny",
            ["tasks.clip.prepare={_target_: modalities.image.prepare.ImagePrepare, image_size: 48}"],
            "tasks.clip.prepare",
        ),
        ("mlm_tiny", ["encoders.text.heads=3"], "encoders.text: heads=3 does not divide width=128"),
        ("mlm_tiny", ["data.tokenizer=/none.json"], "tasks.mlm.prepare: tokenizer '/none.json' does not exist"),
    ],
)
def test_what_does_not_fit_together_is_named(build, experiment, overrides, message):
    with pytest.raises(InputError) as caught:
        build(*overrides, experiment=experiment)
    assert message.rstrip("?") in str(caught.value)
    assert "\n" not in str(caught.value)


POSITIONS = ["+encoders.text.positions=learned", "+encoders.text.max_tokens=77"]


@pytest.mark.parametrize(
    ("experiment", "overrides", "place", "longest", "fits"),
    [
        ("mlm_tiny", [], "tasks.mlm.prepare.max_tokens=128", 128, 77),
        ("clm_tiny", [], "tasks.clm.prepare.max_tokens=128", 127, 78),
        ("clip_tiny", ["tasks.clip.prepare.b.max_tokens=78"], "tasks.clip.prepare.b.max_tokens=78", 78, 77),
        ("mlm_tiny", ["+task@tasks.bow=bow", "tasks.bow.prepare.max_tokens=99", "~tasks.mlm"],
         "tasks.bow.prepare.max_tokens=99", 99, 77),
        ("mlm_tiny", ["+task@tasks.views=views_text", "tasks.views.prepare.a.max_tokens=80", "~tasks.mlm"],
         "tasks.views.prepare.a.max_tokens=80", 80, 77),
        ("mlm_tiny", ["+task@tasks.label=text_classification", "tasks.label.prepare.labels=[a,b]", "~tasks.mlm"],
         "tasks.label.prepare.input.max_tokens=128", 128, 77),
    ],
)  # fmt: skip
def test_texts_that_are_longer_than_the_encoder_takes_are_named(build, experiment, overrides, place, longest, fits):
    with pytest.raises(InputError) as caught:
        build(*POSITIONS, *overrides, experiment=experiment)
    key = place.partition("=")[0]
    assert str(caught.value) == (
        f"{place} makes texts of up to {longest} tokens, but encoder 'text' takes 77 (encoders.text.max_tokens); "
        f"set {key}={fits}"
    )
    build(*POSITIONS, *overrides, f"{key}={fits}", experiment=experiment)


def test_a_plugin_says_how_long_a_text_may_be(build):
    pytest.importorskip("transformers")
    plugin = ["encoder@encoders.text=hf_bert", "encoders.text.max_tokens=50"]
    with pytest.raises(InputError, match=r"but encoder 'text' takes 50 .* set tasks.mlm.prepare.max_tokens=50"):
        build(*plugin)
    build(*plugin, "tasks.mlm.prepare.max_tokens=50")


def test_a_task_with_nothing_left_to_train_is_named(build):
    model = build(experiment="grounded_tiny")
    model.check_trained()
    model.encoders["text"].requires_grad_(False)
    model.check_trained()  # its objective is
    model.objectives["mlm"].requires_grad_(False)
    with pytest.raises(InputError, match=r"tasks.mlm has nothing to train: encoder 'text' and its .*'~tasks.mlm'"):
        model.check_trained()


def test_one_encoder_cannot_have_two_tokenizers(build, tmp_path):
    from modalities.text.tokenizer import train

    train(["one two three"], 290).save(str(tmp_path / "other.json"))
    model = build("+task@tasks.second=mlm", f"tasks.second.prepare.tokenizer={tmp_path / 'other.json'}")
    with pytest.raises(InputError, match=r"tasks\.second: encoder 'text' is fed by another task with another"):
        tokenizers(model)

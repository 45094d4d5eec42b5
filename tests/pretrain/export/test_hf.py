"""``pretrain export``: what ``transformers`` loads computes what the run's model computes."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from data.errors import InputError
from data.sample import Sample
from modalities.audio.encoder import AudioEncoder
from modalities.audio.hf_config import wav2vec2
from modalities.hf_config import settings_of
from modalities.image.encoder import ImageEncoder
from modalities.image.hf_config import clip_vision
from modalities.image.prepare import ImagePrepare
from pretrain.cli import main
from pretrain.export import clip, hf
from tests.pretrain.export.families import ALONE, OVERRIDES, ours, published, sizes

CLASSES = {
    "bert": ("BertForMaskedLM", "BertModel"),
    "modernbert": ("ModernBertForMaskedLM", "ModernBertModel"),
    "gpt2": ("GPT2LMHeadModel", "GPT2Model"),
    "clip": ("CLIPModel", "CLIPVisionModelWithProjection"),
    "wav2vec2": ("Wav2Vec2ForPreTraining", "Wav2Vec2Model"),
    "wav2vec2_large": ("Wav2Vec2ForPreTraining", "Wav2Vec2Model"),
}
TEXTS = ["a large red circle", "above the blue square of one", "three"]


@pytest.mark.parametrize("family", OVERRIDES)
def test_each_family_with_its_head_and_alone(tmp_path, tokenizer_path, transformers, family, capsys):
    published(tmp_path / "run", tokenizer_path, OVERRIDES[family])
    with_head, alone = CLASSES[family]
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "head")]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{with_head} of step 7")
    assert "parity with transformers" in said
    assert main(["export", str(tmp_path / "run"), "--encoder", ALONE[family], "--out", str(tmp_path / "alone")]) == 0
    assert capsys.readouterr().out.startswith(f"{alone} of step 7")
    model, info = getattr(transformers, with_head).from_pretrained(tmp_path / "head", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert all(torch.isfinite(p).all() for p in model.parameters())
    auto = transformers.AutoModel.from_pretrained(tmp_path / "alone")
    assert type(auto).__name__ in (alone, alone.removesuffix("WithProjection"))


@pytest.mark.parametrize("family", ["bert", "modernbert", "gpt2"])
def test_from_text_to_features_as_here(tmp_path, tokenizer_path, transformers, family):
    """The whole way, written without the command's own check: their tokenizer, their model, padded."""
    model = published(tmp_path / "run", tokenizer_path, OVERRIDES[family])
    hf.export(str(tmp_path / "run"), out=tmp_path / "out", checked=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    given = tokenizer(TEXTS, return_tensors="pt", padding=True)
    with torch.no_grad():
        found = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()(**given).last_hidden_state
    expected = ours(model.encoders["text"], tokenizer_path, TEXTS, end=family != "gpt2")
    torch.testing.assert_close(found[given["attention_mask"].bool()], expected, rtol=1e-5, atol=1e-5)


def test_clip_from_text_to_similarity_as_here(tmp_path, tokenizer_path, transformers):
    model = published(tmp_path / "run", tokenizer_path, OVERRIDES["clip"])
    hf.export(str(tmp_path / "run"), out=tmp_path / "out", checked=False)
    processor = transformers.CLIPProcessor.from_pretrained(tmp_path / "out")
    given = processor.tokenizer(TEXTS, return_tensors="pt", padding=True)
    with torch.no_grad():
        clip = transformers.CLIPModel.from_pretrained(tmp_path / "out").eval()
        found = clip.get_text_features(**given)
        found = getattr(found, "pooler_output", found)
        tokens = ours(model.encoders["text"], tokenizer_path, TEXTS)
        ends = given["attention_mask"].sum(1).cumsum(0) - 1
        expected = model.encoders["text"].projections["24"](tokens[ends])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def picture(width, height):
    """Colours that change slowly: what moves by a pixel hardly changes."""
    y, x = np.mgrid[0:height, 0:width] / min(width, height)
    waves = (np.sin(6 * x + 3 * y), np.cos(5 * y), np.sin(4 * x))
    return Image.fromarray(np.stack([127 + 100 * wave for wave in waves], -1).astype(np.uint8))


@pytest.mark.parametrize(
    ("size", "levels"), [((32, 32), 0), ((75, 75), 0), ((20, 20), 0), ((64, 48), 8), ((75, 113), 8)]
)
def test_the_processor_makes_of_pictures_what_training_does(tmp_path, tokenizer_path, transformers, size, levels):
    model = published(tmp_path / "run", tokenizer_path, OVERRIDES["clip"])
    hf.export(str(tmp_path / "run"), out=tmp_path / "out", checked=False)
    file = io.BytesIO()
    picture(*size).save(file, "PNG")
    ours = ImagePrepare(32)(Sample("", "", {"png": file.getvalue()}), np.random.default_rng(0), False)["pixels"]
    processor = transformers.CLIPImageProcessor.from_pretrained(tmp_path / "out")
    found = processor(images=picture(*size), return_tensors="pt")["pixel_values"][0]
    encoder = model.encoders["image"]
    assert (found * encoder.spread + encoder.mean - ours).abs().max().item() <= levels + 1e-3


def test_a_processor_that_resizes_otherwise_is_found(tmp_path, tokenizer_path, transformers, capsys, monkeypatch):
    published(tmp_path / "run", tokenizer_path, OVERRIDES["clip"])
    monkeypatch.setattr(clip, "BILINEAR", 3)
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 1
    assert "CLIPProcessor prepares inputs differently from this framework" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


NOT_THERE = "projection of encoder '{}' into the joint space of {} features is not in the folder"


def test_a_projection_that_a_family_has_no_place_for_is_told(tmp_path, tokenizer_path, capsys):
    more = ["+encoder@encoders.audio=wav2vec2_base", *sizes("audio", channels=16, position_kernel=8, position_groups=4)]
    more += ["+task@tasks.clap=clap", "tasks.clap.objective.embed_dim=16"]
    published(tmp_path / "run", tokenizer_path, [*OVERRIDES["clip"], *more])
    run = str(tmp_path / "run")
    for arguments, there in (
        (["--encoder", "audio"], [("audio", 16)]),
        (["--encoder", "image"], []),
        (["--encoder", "text"], [("text", 16), ("text", 24)]),
        (["--task", "clip"], [("text", 16)]),
    ):
        out = tmp_path / arguments[1]
        assert main(["export", run, "--no-check", *arguments, "--out", str(out)]) == 0
        said, card = capsys.readouterr().out, (out / "README.md").read_text()
        for name, dim in (("audio", 16), ("image", 24), ("text", 16), ("text", 24)):
            assert (NOT_THERE.format(name, dim) in said) == ((name, dim) in there)
            assert (NOT_THERE.format(name, dim) in card) == ((name, dim) in there)


def test_a_projection_of_a_bert_is_told_with_its_head_and_alone(tmp_path, tokenizer_path, capsys):
    more = ["+task@tasks.clip=clip", "+encoder@encoders.image=image_tiny", "embed_dim=24"]
    published(tmp_path / "run", tokenizer_path, [*OVERRIDES["bert"], *more])
    for arguments in (["--task", "mlm"], ["--encoder", "text"]):
        assert main(["export", str(tmp_path / "run"), "--no-check", *arguments]) == 0
        assert NOT_THERE.format("text", 24) in capsys.readouterr().out


def test_averaged_weights(tmp_path, tokenizer_path, transformers):
    published(tmp_path / "run", tokenizer_path, OVERRIDES["bert"], average=True)
    for name, options in (("raw", []), ("ema", ["--ema"])):
        assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / name), *options]) == 0
    raw, ema = (load_file(tmp_path / name / "model.safetensors") for name in ("raw", "ema"))
    assert all(torch.equal(0.5 * raw[name], ema[name]) for name in raw)
    assert "moving average" in (tmp_path / "ema/README.md").read_text()


RELU = ["+encoders.text.trunk.activation=relu"]


@pytest.mark.parametrize(
    ("more", "arguments"),
    [
        (["encoders.text.token_types=0"], []),
        (["+encoders.text.trunk.bias=false", "tasks.mlm.objective.head=modernbert"], []),
        (RELU, ["--encoder", "text"]),
    ],
    ids=["no token types", "no biases", "another activation"],
)
def test_what_can_be_folded_is(tmp_path, tokenizer_path, transformers, more, arguments):
    published(tmp_path / "run", tokenizer_path, [*OVERRIDES["bert"], *more])
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "out"), *arguments]) == 0


@pytest.mark.parametrize("arguments", [[], ["--encoder", "audio"]])
def test_a_bias_that_the_norm_of_frames_takes_away_is_written_as_zeros(
    tmp_path, tokenizer_path, transformers, arguments
):
    """wav2vec 2.0 of transformers has it also in front of that norm, ours does without."""
    published(tmp_path / "run", tokenizer_path, [*OVERRIDES["wav2vec2"], "encoders.audio.frontend_bias=true"])
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "out"), *arguments]) == 0
    found = load_file(tmp_path / "out/model.safetensors")
    (bias,) = (t for name, t in found.items() if name.endswith("conv_layers.0.conv.bias"))
    assert torch.equal(bias, torch.zeros(16))


def test_a_head_that_the_family_lacks_is_refused(tmp_path, tokenizer_path, capsys):
    more = [*RELU, "tasks.mlm.objective.norm_eps=1e-6"]
    published(tmp_path / "run", tokenizer_path, [*OVERRIDES["bert"], *more])
    assert main(["export", str(tmp_path / "run"), "--no-check"]) == 2
    said = capsys.readouterr().err
    assert "norm_eps=1e-06 (BERT needs that of the trunk, 1e-12)" in said
    assert "trunk.activation=relu" in said


def test_settings_of_no_family_are_named_one_by_one(tmp_path, tokenizer_path, capsys):
    published(tmp_path / "run", tokenizer_path, ["experiment=mlm_tiny", "+encoders.text.trunk.norm_kind=rms"])
    assert main(["export", str(tmp_path / "run"), "--no-check"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "encoders.text is no family of transformers; nearest is" in said
    assert "trunk.norm_kind=rms" in said
    assert not (tmp_path / "run/export").exists()


def test_what_computes_something_else_gets_no_name(tmp_path, tokenizer_path, transformers, capsys, monkeypatch):
    """One number of the written weights is wrong by a thousandth: the folder is gone, and the difference is said."""
    published(tmp_path / "run", tokenizer_path, OVERRIDES["gpt2"])
    right = hf.choose

    def wrong(*arguments):
        plan = right(*arguments)
        plan.weights["transformer.ln_f.bias"] = plan.weights["transformer.ln_f.bias"] + 1e-3
        return plan

    monkeypatch.setattr(hf, "choose", wrong)
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 1
    assert "GPT2LMHeadModel computes logits differently from this model, by " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_without_transformers_one_line_says_what_to_install(tmp_path, tokenizer_path, capsys, monkeypatch):
    published(tmp_path / "run", tokenizer_path, OVERRIDES["bert"])
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install 'transformers>=5'" in said
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--no-check"]) == 0
    assert "Not checked" in (tmp_path / "out/README.md").read_text()


def test_wrong_arguments_are_one_line(tmp_path, tokenizer_path, capsys):
    both = [*OVERRIDES["clip"], "+task@tasks.clm=clm", "tasks.clm.prepare.max_tokens=78"]
    published(tmp_path / "run", tokenizer_path, both)
    run = str(tmp_path / "run")
    (tmp_path / "full").mkdir()
    for arguments, expected in (
        ([], "which part of"),
        (["--task", "clmm"], "did you mean 'clm'"),
        (["--encoder", "audio"], "choices: image, text"),
        (["--encoder", "image", "--task", "clm"], "does not use encoder 'image', but text"),
        (["--encoder", "text", "--ema"], "keeps no averaged weights"),
        (["--encoder", "image", "--out", str(tmp_path / "full")], "exists already"),
        (["--encoder", "image", "--out", str(tmp_path / "full"), "--overwrite"], "is no exported folder"),
        (["--encoder", "text", "--tokenizer", str(tmp_path / "none")], "is not there; give --tokenizer FILE"),
        (["--format", "onxx"], "--format 'onxx' is unknown"),
    ):
        assert main(["export", run, "--no-check", *arguments]) == 2
        said = capsys.readouterr().err
        assert expected in said
        assert said.count("\n") == 1
    assert main(["export", str(tmp_path / "full"), "--no-check"]) == 2
    assert "holds no sound checkpoint" in capsys.readouterr().err


def test_only_the_tokenizer_of_what_is_written_must_be_there(tmp_path, tokenizer_path, capsys):
    """A copied run: the tokenizers of its texts have stayed behind, and lie elsewhere under names of their own."""
    own, other = tmp_path / "own.json", tmp_path / "other.json"
    own.write_bytes(Path(tokenizer_path).read_bytes())
    other.write_bytes(Path(tokenizer_path).read_bytes() + b"\n")
    more = ["+encoder@encoders.words=gpt2_small", *sizes("words", vocab_size=320, max_tokens=140)]
    more += ["+task@tasks.clm=clm", "tasks.clm.encoders={text: words}", "tasks.clm.objective.vocab_size=320"]
    more += ["tasks.clm.prepare.max_tokens=100", f"tasks.clm.prepare.tokenizer={other}"]
    published(tmp_path / "run", own, [*OVERRIDES["clip"], *more])
    own.rename(tmp_path / "moved.json")
    other.unlink()
    run = str(tmp_path / "run")
    assert main(["export", run, "--no-check", "--encoder", "image"]) == 0
    assert main(["export", run, "--no-check", "--task", "clip"]) == 2
    assert "own.json' of encoder 'text' is not there; give --tokenizer FILE" in capsys.readouterr().err
    for arguments in (["--task", "clip"], ["--encoder", "text"]):
        assert main(["export", run, "--no-check", *arguments, "--tokenizer", str(tmp_path / "moved.json")]) == 0


def test_a_config_names_code_and_none_is_run(tmp_path, tokenizer_path, capsys):
    """A checkpoint is data: a class that its config names is looked up in a table, never imported."""
    published(tmp_path / "run", tokenizer_path, OVERRIDES["bert"])
    step = next((tmp_path / "run/checkpoints").glob("step-*"))
    from pretrain import checkpoint

    content = checkpoint.read(step)
    content.state["config"]["encoders"]["text"]["_target_"] = "antigravity.geohash"
    content.state["step"] = 8
    checkpoint.publish(step.parent, content)
    assert main(["export", str(tmp_path / "run"), "--encoder", "text", "--no-check"]) == 2
    assert "'antigravity.geohash' is no packaged encoder" in capsys.readouterr().err
    assert "antigravity" not in __import__("sys").modules


def test_the_card_says_what_is_known_and_what_is_not(tmp_path, tokenizer_path):
    scores = {"mlm/perplexity": {"value": 12.5, "chance": 300.0}}
    published(tmp_path / "run", tokenizer_path, OVERRIDES["bert"], results=scores)
    hf.export(str(tmp_path / "run"), out=tmp_path / "out", licence="CC-BY-4.0", checked=False)
    card = (tmp_path / "out/README.md").read_text()
    assert "license: CC-BY-4.0" in card
    assert "| mlm/perplexity | 12.5 | 300 |" in card
    assert "masked language modelling (share of tokens chosen: 0.15, by token, tokens at most: 128); 70 samples" in card
    assert "The run had not come to its end." in card
    assert "no data card was given" in card
    assert "Not stated: the run's directory is not there, or has no record." in card
    assert str(tmp_path) not in card
    assert json.loads((tmp_path / "out/config.json").read_text())["architectures"] == ["BertForMaskedLM"]


def test_compute_is_that_of_the_steps_that_lead_to_the_checkpoint(tmp_path, tokenizer_path):
    published(tmp_path / "run", tokenizer_path, OVERRIDES["bert"])
    rows = [{"step": step, "seconds": 30.0, "data_wait": 1.0, "samples": 8} for step in range(1, 10)]
    (tmp_path / "run/speed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    machine = {"device": "cpu", "cores": 2, "packages": {"torch": "2"}, "version": "0.1", "python": "3.11"}
    starts = [machine | {"step": 0}, machine | {"step": 3, "cores": 4}, machine | {"step": 7, "cores": 8}]
    starts.insert(1, {"step": 2, "positions": {"mlm": 40}, "batch_sizes": {"mlm": 8}, "jumps": {"mlm": 24}})  # no start
    (tmp_path / "run/starts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in starts))
    (tmp_path / "data.md").write_text("# Books\n")
    hf.export(str(tmp_path / "run"), out=tmp_path / "out", data_card=tmp_path / "data.md", checked=False)
    card = (tmp_path / "out/README.md").read_text()
    assert "3.5 minutes of steps (7 recorded), in 2 starts" in card
    assert "cpu, 2 cores; cpu, 4 cores" in card
    assert "[DATA_CARD.md](DATA_CARD.md)" in card
    assert (tmp_path / "out/DATA_CARD.md").read_text() == "# Books\n"
    for number, place in enumerate(("run/checkpoints", "run/checkpoints/step-00000007")):
        hf.export(str(tmp_path / place), out=tmp_path / f"more{number}", checked=False)
        assert "3.5 minutes of steps" in (tmp_path / f"more{number}/README.md").read_text()
    with pytest.raises(InputError, match=r"--data-card .* cannot be read"):
        hf.export(str(tmp_path / "run"), out=tmp_path / "two", data_card=tmp_path / "none.md", checked=False)


@pytest.mark.parametrize(
    ("kind", "describe", "settings", "said"),
    [
        (AudioEncoder, wav2vec2, {"channels": 8, "mel_bands": 40}, "mel_bands=40 (wav2vec 2.0 needs 0)"),
        (ImageEncoder, clip_vision, {"image_size": 32, "patch_size": 4, "stem": [8, 8]}, "stem=[8, 8]"),
    ],
)
def test_front_ends_of_no_family_are_named(kind, describe, settings, said):
    found = describe(settings_of(kind, {"width": 16, "depth": 1, "heads": 2, **settings}, "encoders.x"))
    assert any(line.startswith(said) for line in found.differences)

"""``pretrain export --format onnx | torch``: graphs that run alone compute what the run's model computes."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from modalities.audio.prepare import AudioPrepare
from pretrain.cli import main
from pretrain.export import graph, programs
from tests.pretrain.export.families import ALONE, OVERRIDES, ours, published

TEXTS = ["a large red circle", "above the blue square of one", "three"]


def families(slow):
    return [pytest.param(family, marks=[pytest.mark.slow] if family in slow else []) for family in OVERRIDES]


def given_and_expected(model, family, folder, transformers, tokenizer_path):
    """Two batches of other sizes, made without the command's own probes, and what the run's model makes of them."""
    encoder = model.encoders[ALONE[family]]
    with torch.no_grad():
        if family == "clip":
            pixels = torch.randint(0, 256, (7, 3, 32, 32), dtype=torch.uint8)
            normal = (pixels.float() - encoder.mean) / encoder.spread
            for some in (slice(0, 1), slice(0, 7)):
                inputs = {"pixel_values": normal[some]}
                expected = encoder.embed({"pixels": pixels[some], "size": len(pixels[some])}, 24)
                yield inputs, "image_embeds", expected, lambda found: found
        elif family.startswith("wav2vec2"):
            prepare = AudioPrepare(kernels=[10, 3, 3, 3, 3, 2, 2], strides=[5, 2, 2, 2, 2, 2, 2])
            for samples in (3001, 20000):
                wave = np.random.default_rng(samples).standard_normal(samples).astype(np.float32)
                inputs = {"input_values": torch.from_numpy(wave)[None]}
                expected = encoder(prepare.collate([{"wave": wave}])).tokens
                yield inputs, "last_hidden_state", expected, lambda found: found[0]
        else:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            for texts in (TEXTS[2:], TEXTS):
                inputs = dict(tokenizer(texts, return_tensors="pt", padding=True))
                expected = ours(encoder, tokenizer_path, texts, end=family != "gpt2")
                kept = inputs["attention_mask"].bool()
                yield inputs, "last_hidden_state", expected, lambda found, kept=kept: found[kept]


def part(family):
    """What graphs are made of: wav2vec 2.0's head serves training alone; CLIP's pair is a test of its own."""
    return ["--encoder", ALONE[family]] if family in ("clip", "wav2vec2", "wav2vec2_large") else []


def run_snippet(card, folder, monkeypatch):
    """What the card's own Python leaves behind, with a picture and a clip at hand."""
    monkeypatch.chdir(folder)
    left = {"picture": Image.new("RGB", (50, 40), "red"), "wave": np.sin(np.arange(9000) / 9).astype(np.float32)}
    exec(card.split("```python")[1].split("```")[0], left)
    return left


@pytest.mark.parametrize("family", families(slow=("modernbert", "gpt2", "wav2vec2", "wav2vec2_large")))
def test_onnx_of_each_family(tmp_path, tokenizer_path, transformers, family, capsys, monkeypatch):
    runtime = pytest.importorskip("onnxruntime")
    model = published(tmp_path / "run", tokenizer_path, OVERRIDES[family])
    run, out = str(tmp_path / "run"), tmp_path / "out"
    assert main(["export", run, "--format", "onnx", "--out", str(out), *part(family)]) == 0
    assert "model.onnx by onnxruntime" in capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert names >= {"model.onnx", "config.json", "README.md"}
    assert "model.safetensors" not in names
    session = runtime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    card = (out / "README.md").read_text()
    assert all(f"| `{one.name}` |" in card for one in [*session.get_inputs(), *session.get_outputs()])
    assert run_snippet(card, out, monkeypatch)["session"] is not None
    assert session.get_inputs()[0].shape[0] == "batch"
    for inputs, name, expected, kept in given_and_expected(model, family, out, transformers, tokenizer_path):
        found = session.run([name], {key: tensor.numpy() for key, tensor in inputs.items()})[0]
        torch.testing.assert_close(kept(torch.from_numpy(found)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", families(slow=("modernbert", "gpt2", "wav2vec2", "wav2vec2_large")))
def test_torch_of_each_family(tmp_path, tokenizer_path, transformers, family, capsys, monkeypatch):
    model = published(tmp_path / "run", tokenizer_path, OVERRIDES[family])
    run, out = str(tmp_path / "run"), tmp_path / "out"
    assert main(["export", run, "--format", "torch", "--out", str(out), *part(family)]) == 0
    assert "model.pt2 by torch" in capsys.readouterr().out
    module = torch.export.load(out / "model.pt2").module()
    for inputs, name, expected, kept in given_and_expected(model, family, out, transformers, tokenizer_path):
        torch.testing.assert_close(kept(module(**inputs)[name]), expected, rtol=1e-5, atol=1e-5)
    outputs = run_snippet((out / "README.md").read_text(), out, monkeypatch)["outputs"]
    assert all(torch.isfinite(output).all() for output in outputs.values())


def test_clip_as_a_pair_in_int8(tmp_path, tokenizer_path, transformers, capsys, monkeypatch):
    """Pictures and texts are different in number; the folder's name says what it is; exactness is said of both."""
    runtime = pytest.importorskip("onnxruntime")
    published(tmp_path / "run", tokenizer_path, OVERRIDES["clip"])
    assert main(["export", str(tmp_path / "run"), "--format", "onnx", "--int8"]) == 0
    said = capsys.readouterr().out
    (out,) = (tmp_path / "run/export").iterdir()
    assert out.name.endswith("-clip-step7-onnx-int8")
    assert not list(out.glob("model.onnx*"))
    assert "in float32 by onnxruntime" in said
    assert "MB instead of" in said
    card = (out / "README.md").read_text()
    assert "(root mean square, as a share of the output's; bound 0.1)" in card
    assert "int8 in matrices and embeddings" in card
    assert run_snippet(card, out, monkeypatch)["logits_per_image"].shape == (1, 2)
    session = runtime.InferenceSession(str(out / "model_int8.onnx"), providers=["CPUExecutionProvider"])
    processor = transformers.CLIPProcessor.from_pretrained(out)
    inputs = dict(processor.tokenizer(TEXTS, return_tensors="np", padding=True))
    inputs["pixel_values"] = np.zeros((2, 3, 32, 32), np.float32)
    assert session.run(["logits_per_image"], inputs)[0].shape == (2, 3)


@pytest.mark.slow
@pytest.mark.parametrize("int8", [[], ["--int8"]], ids=["float32", "int8"])
def test_large_weights_lie_beside_the_graph(tmp_path, tokenizer_path, transformers, int8, monkeypatch):
    runtime = pytest.importorskip("onnxruntime")
    published(tmp_path / "run", tokenizer_path, OVERRIDES["clip"])
    monkeypatch.setattr(programs, "LARGE", 1000)
    arguments = ["export", str(tmp_path / "run"), "--encoder", "image", "--format", "onnx", *int8]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    name = programs.INT8_FILE if int8 else programs.ONNX_FILE
    files = {path.name for path in (tmp_path / "out").glob("model*")}
    assert files == {name, f"{name}.data"}
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    runtime.InferenceSession(str(tmp_path / "elsewhere" / name), providers=["CPUExecutionProvider"])


@pytest.mark.slow
@pytest.mark.parametrize("family", [family for family in OVERRIDES if family != "clip"])
def test_int8_of_each_other_family(tmp_path, tokenizer_path, transformers, family, capsys):
    pytest.importorskip("onnxruntime")
    published(tmp_path / "run", tokenizer_path, OVERRIDES[family])
    run, out = str(tmp_path / "run"), str(tmp_path / "out")
    assert main(["export", run, "--format", "onnx", "--int8", "--out", out, *part(family)]) == 0
    assert "model_int8.onnx, int8: " in capsys.readouterr().out


def test_a_graph_that_computes_something_else_gets_no_name(tmp_path, tokenizer_path, transformers, capsys, monkeypatch):
    """One number of what is written is wrong by a thousandth: nothing is left, and the difference is said."""
    published(tmp_path / "run", tokenizer_path, OVERRIDES["clip"])
    right = programs.write_torch

    def wrong(program, path):
        with torch.no_grad():
            program.state_dict["model.visual_projection.weight"][0, 0] += 1e-3
        right(program, path)

    monkeypatch.setattr(programs, "write_torch", wrong)
    arguments = ["export", str(tmp_path / "run"), "--encoder", "image", "--format", "torch"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "model.pt2 computes image_embeds differently from this model, by " in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_int8_over_its_bound_gets_no_name(tmp_path, tokenizer_path, transformers, capsys, monkeypatch):
    pytest.importorskip("onnxruntime")
    published(tmp_path / "run", tokenizer_path, OVERRIDES["clip"])
    monkeypatch.setattr(graph, "INT8_TOLERANCE", 1e-4)
    arguments = ["export", str(tmp_path / "run"), "--encoder", "image", "--format", "onnx", "--int8"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    assert "without --int8 it is exact" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--format", "onnx"], "no graph is made of Wav2Vec2ForPreTraining"),
        (["--format", "torch"], "give --encoder NAME for the encoder without it"),
        (["--int8"], "--int8 is for --format onnx, not 'hf'"),
        (["--format", "torch", "--int8"], "--int8 is for --format onnx, not 'torch'"),
        (["--format", "torch", "--no-check"], "--no-check is for --format hf, not 'torch'"),
        (["--format", "pt"], "--format 'pt' is unknown; choices: hf, onnx, torch"),
    ],
)
def test_what_cannot_be_made_is_one_line(tmp_path, tokenizer_path, transformers, capsys, arguments, expected):
    pytest.importorskip("onnxruntime")
    published(tmp_path / "run", tokenizer_path, OVERRIDES["wav2vec2"])
    assert main(["export", str(tmp_path / "run"), *arguments]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run/export").exists()


def test_without_onnx_one_line_says_what_to_install(tmp_path, tokenizer_path, transformers, capsys, monkeypatch):
    published(tmp_path / "run", tokenizer_path, OVERRIDES["bert"])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", str(tmp_path / "run"), "--format", "onnx"]) == 2
    assert "pip install onnx onnxscript onnxruntime" in capsys.readouterr().err

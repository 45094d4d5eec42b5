"""``init_from=FOLDER`` of ``transformers``: the same tensors come out again, and nothing of the folder is run."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from data.errors import InputError
from modalities.lora import is_update, merged
from pretrain.export.incoming import concerns, open_folder
from tests.pretrain.export.families import ALONE, OVERRIDES, edit, saved, theirs
from tests.pretrain.export.incoming import FILE, begun, exported


@pytest.mark.parametrize("family", OVERRIDES)
def test_in_and_out_again_is_bitwise_the_same(tmp_path, tokenizer_path, transformers, family, said):
    there = saved(transformers, family, 320, tokenizer_path, tmp_path / "theirs")
    resolved, model = begun(tmp_path, tokenizer_path, family, tmp_path / "theirs")
    before, after = load_file(tmp_path / "theirs" / FILE), exported(tmp_path, resolved, model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)
    again = type(there).from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in there.state_dict().items())
    assert "tensors taken" in said.text
    assert "begin anew" not in said.text
    assert "left out" not in said.text


@pytest.mark.parametrize("family", ["bert", "wav2vec2"])
def test_an_encoder_with_updates_beside_its_weights_comes_in_as_without(
    tmp_path, tokenizer_path, family, transformers, said
):
    saved(transformers, family, 320, tokenizer_path, tmp_path / "theirs")
    _, plain = begun(tmp_path, tokenizer_path, family, tmp_path / "theirs")
    assert "begin anew" not in said.text
    _, adapted = begun(tmp_path, tokenizer_path, family, tmp_path / "theirs", "lora.rank=4")
    assert "begin anew" not in said.text
    name = ALONE[family]
    state = adapted.encoders[name].state_dict()
    assert any(map(is_update, state))
    assert merged(state).keys() == plain.encoders[name].state_dict().keys()
    for key, tensor in plain.encoders[name].state_dict().items():
        assert torch.equal(merged(state)[key], tensor)


@pytest.mark.parametrize("family", OVERRIDES)
def test_an_encoder_alone_comes_in_and_the_head_begins_anew(tmp_path, tokenizer_path, transformers, family, said):
    whole = theirs(transformers, family, 320)
    if family == "clip":
        alone = transformers.CLIPVisionModel(whole.config.vision_config)
        alone.load_state_dict(whole.vision_model.state_dict(), strict=False)
    else:
        alone = getattr(whole, whole.base_model_prefix)
    alone.save_pretrained(tmp_path / "theirs")
    _, model = begun(tmp_path, tokenizer_path, family, tmp_path / "theirs")
    assert f"encoder {ALONE[family]} is" in said.text
    if family not in ("gpt2",):
        assert "begin anew" in said.text
    own = model.encoders[ALONE[family]].state_dict()
    blocks = [name for name in own if name.endswith("mlp_out.weight")]
    their_blocks = [t for n, t in alone.state_dict().items() if n.endswith(("fc2.weight", "output_dense.weight"))]
    assert len(blocks) >= 2
    for name, tensor in zip(sorted(blocks), their_blocks, strict=False):
        assert torch.equal(own[name], tensor)


@pytest.mark.parametrize("form", ["sharded", "pickled", "gamma"])
def test_older_and_larger_files(tmp_path, tokenizer_path, transformers, form):
    folder = tmp_path / "theirs"
    options = {"max_shard_size": "40KB"} if form == "sharded" else {}
    there = saved(transformers, "bert", 320, tokenizer_path, folder, **options)
    if form == "sharded":
        assert len(list(folder.glob("*.safetensors"))) > 1
    else:
        state = load_file(folder / FILE)
        (folder / FILE).unlink()
        if form == "pickled":
            torch.save(state, folder / "pytorch_model.bin")
        else:
            old = {
                n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
                for n, t in state.items()
            }
            old |= {"bert.pooler.dense.weight": torch.zeros(32, 32), "bert.embeddings.position_ids": torch.arange(140)}
            save_file(old, folder / FILE)
    resolved, model = begun(tmp_path, tokenizer_path, "bert", folder)
    after = exported(tmp_path, resolved, model)
    assert all(torch.equal(after[name], there.state_dict()[name]) for name in after)


def test_other_sizes_and_settings_are_all_named(tmp_path, tokenizer_path, transformers):
    saved(transformers, "bert", 320, tokenizer_path, tmp_path / "theirs")
    with pytest.raises(InputError) as found:
        begun(tmp_path, tokenizer_path, "bert", tmp_path / "theirs", "encoders.text.depth=3", "encoders.text.heads=8")
    assert "num_hidden_layers is 2 there and 3 here" in str(found.value)
    assert "num_attention_heads is 4 there and 8 here" in str(found.value)
    with pytest.raises(InputError, match="fits no encoder of this run"):
        begun(tmp_path, tokenizer_path, "wav2vec2", tmp_path / "theirs")


def test_modernbert_as_version_4_wrote_it_is_compared_too(tmp_path, tokenizer_path, transformers):
    """The published config.json knows neither ``layer_types`` nor ``rope_parameters``."""
    folder = tmp_path / "theirs"
    saved(transformers, "modernbert", 320, tokenizer_path, folder)
    config = json.loads((folder / "config.json").read_text())
    for key in ("layer_types", "rope_parameters"):
        del config[key]
    for said in ({}, {"global_attn_every_n_layers": 3, "global_rope_theta": 160000.0, "local_rope_theta": 10000.0}):
        (folder / "config.json").write_text(json.dumps(config | said))
        begun(tmp_path, tokenizer_path, "modernbert", folder)
        for setting, message in (("global_every=2", "layer_types is"), ("rotary_base=500", "rope_parameters is")):
            with pytest.raises(InputError, match=message):
                begun(tmp_path, tokenizer_path, "modernbert", folder, f"encoders.text.trunk.{setting}")
    edit(folder / "config.json", global_rope_theta=500.0, local_rope_theta=None)
    more = ("encoders.text.trunk.rotary_base=500", "encoders.text.trunk.local_rotary_base=null")
    begun(tmp_path, tokenizer_path, "modernbert", folder, *more)


def test_which_encoder_takes_it_can_be_said(tmp_path, tokenizer_path, transformers):
    saved(transformers, "bert", 320, tokenizer_path, tmp_path / "theirs")
    begun(tmp_path, tokenizer_path, "bert", {"text": str(tmp_path / "theirs")})
    with pytest.raises(InputError, match=r"init_from\.txt: no such encoder"):
        begun(tmp_path, tokenizer_path, "bert", {"txt": str(tmp_path / "theirs")})


def test_a_head_of_other_settings_begins_anew(tmp_path, tokenizer_path, transformers, said):
    saved(transformers, "bert", 320, tokenizer_path, tmp_path / "theirs")
    begun(tmp_path, tokenizer_path, "bert", tmp_path / "theirs", "tasks.mlm.objective.norm_eps=1e-5")
    assert "the head of task mlm begins anew: norm_eps=1e-05" in said.text


def test_what_init_from_means(tmp_path):
    assert not concerns(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert concerns(str(tmp_path))
    assert open_folder(str(tmp_path)).model_type == "bert"

"""The five families at the smallest sizes: runs of each as checkpoints, and folders of ``transformers``."""

import json

import torch

from modalities.layout import Layout
from modalities.text.prepare import TextPrepare
from pretrain import checkpoint, config
from pretrain.model import build_model, tokenizers
from pretrain.run import RunDirectory
from tests.modalities.parity.numbers import randomise


def sizes(name, **more):
    keys = {"width": 32, "depth": 2, "heads": 4} | more
    return [f"++encoders.{name}.{key}={value}" for key, value in keys.items()]


MLM = ["experiment=mlm_tiny", "encoders.text.vocab_size=320"]
CLIP = ["experiment=clip_tiny", "encoder@encoders.text=clip_text_b", "encoder@encoders.image=clip_vit_b_32"]
WAV = ["experiment=wav2vec2_tiny"]
OVERRIDES = {
    "bert": [
        *MLM, "encoder@encoders.text=bert_base", *sizes("text", max_tokens=140), "tasks.mlm.objective.norm_eps=1e-12",
    ],
    "modernbert": [
        *MLM, "encoder@encoders.text=modernbert_base", *sizes("text", depth=4), "encoders.text.trunk.window=8",
        "tasks.mlm.objective.head=modernbert",
    ],
    "gpt2": [
        "experiment=clm_tiny", "encoder@encoders.text=gpt2_small", "encoders.text.vocab_size=320",
        *sizes("text", max_tokens=140), "tasks.clm.objective.bias=false",
    ],
    "clip": [
        *CLIP, "encoders.text.vocab_size=320", *sizes("text"), *sizes("image", image_size=32, patch_size=8),
        "embed_dim=24",
    ],
    "wav2vec2": [
        *WAV, "encoder@encoders.audio=wav2vec2_base",
        *sizes("audio", channels=16, position_kernel=8, position_groups=4, feature_grad_mult=1.0),
    ],
    "wav2vec2_large": [
        *WAV, "encoder@encoders.audio=wav2vec2_large",
        *sizes("audio", channels=16, position_kernel=8, position_groups=4),
    ],
}  # fmt: skip
ALONE = {
    "bert": "text",
    "modernbert": "text",
    "gpt2": "text",
    "clip": "image",
    "wav2vec2": "audio",
    "wav2vec2_large": "audio",
}


def composed(run_dir, tokenizer, overrides):
    """A resolved config whose texts have the tokenizer ``tokenizer``."""
    data = ["data=shards", "data.folder=none", f"data.tokenizer={tokenizer}", f"run_dir={run_dir}"]
    return config.load([*data, *overrides])


def published(run_dir, tokenizer, overrides, *, average=False, results=None):
    """A run directory with a checkpoint of step 7 in which every number is random; returns the model as well."""
    resolved = composed(run_dir, tokenizer, overrides)
    model = build_model(resolved)
    randomise(model)
    directory = RunDirectory(str(run_dir))
    directory.freeze_config(resolved, {"step": 0})
    if results is not None:
        directory.write_results(7, results)
    save(directory, resolved, model, average)
    return model.eval()


def save(directory, resolved, model, average=False, step=7):
    state = {
        "step": step,
        "positions": dict.fromkeys(model.tasks, 70),
        "config": {key: resolved[key] for key in ("seed", "order", "encoders", "tasks")},
        "tokenizers": tokenizers(model),
    }
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ema = {name: 0.5 * parameter.detach() for name, parameter in model.named_parameters()} if average else {}
    checkpoint.publish(directory.checkpoints, checkpoint.Content(weights, {"none": torch.zeros(1)}, state, ema))


def ours(encoder, tokenizer, texts, end=True):
    """Features (T, D) of texts, tokenized by this framework."""
    prepare = TextPrepare(tokenizer, 100)
    rows = [[prepare.start, *prepare.tokenizer.encode(text), *([prepare.end] if end else [])] for text in texts]
    tokens = torch.tensor([token for row in rows for token in row])
    with torch.no_grad():
        return encoder({"tokens": tokens, "layout": Layout([len(row) for row in rows]), "size": len(rows)}).tokens


def theirs(transformers, family, vocab_size):
    """A model of ``transformers`` with a head, random in every number."""
    text = {"vocab_size": vocab_size, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32}
    tower = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 128}
    wave = {
        **tower, "conv_dim": [16] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4,
        "num_codevectors_per_group": 16, "codevector_dim": 64, "proj_codevector_dim": 64,
    }  # fmt: skip
    if family == "bert":
        config = transformers.BertConfig(**text, intermediate_size=128, max_position_embeddings=140)
        model = transformers.BertForMaskedLM(config)
    elif family == "modernbert":
        text |= {"num_hidden_layers": 4, "pad_token_id": 0}
        config = transformers.ModernBertConfig(**text, intermediate_size=48, local_attention=16)
        model = transformers.ModernBertForMaskedLM(config)
    elif family == "gpt2":
        config = transformers.GPT2Config(vocab_size=vocab_size, n_embd=32, n_layer=2, n_head=4, n_positions=140)
        model = transformers.GPT2LMHeadModel(config)
    elif family == "clip":
        words = {**tower, "vocab_size": vocab_size, "eos_token_id": 3, "bos_token_id": 2, "pad_token_id": 0}
        pictures = {**tower, "image_size": 32, "patch_size": 8}
        model = transformers.CLIPModel(
            transformers.CLIPConfig(text_config=words, vision_config=pictures, projection_dim=24)
        )
    elif family == "wav2vec2":
        model = transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**wave))
    else:
        stable = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
        model = transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**wave, **stable))
    randomise(model)
    return model


def saved(transformers, family, vocab_size, tokenizer, folder, **options):
    """Such a model with its tokenizer, as ``save_pretrained`` writes both."""
    model = theirs(transformers, family, vocab_size)
    model.save_pretrained(folder, **options)
    if family in ("bert", "modernbert", "gpt2", "clip"):
        transformers.PreTrainedTokenizerFast(tokenizer_file=tokenizer).save_pretrained(folder)
    return model


def edit(path, **changed):
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))

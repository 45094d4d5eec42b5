"""``pretrain export``: writes an encoder, with a task's head or without, for other libraries."""

from __future__ import annotations

import argparse
from pathlib import Path

from data.errors import InputError
from pretrain.verbs import options

DESCRIPTION = (
    "Writes an encoder of a run in the layout of transformers: config.json, model.safetensors, tokenizer or processor, "
    "and a model card. What was written is loaded again with transformers and compared with the trained model before "
    "the folder gets its name. --format onnx and torch write a graph instead, which runs without transformers, and "
    "compare that as well."
)
FORMATS = ("hf", "onnx", "torch")


def parser() -> argparse.ArgumentParser:
    """The verb's command line."""
    top = options.Parser(prog="pretrain export", description=DESCRIPTION)
    add = top.add_argument
    add("run", metavar="RUN", help="run directory (its newest sound checkpoint), or one step-XXXXXXXX folder")
    add("--format", metavar="FORMAT", default="hf", help=f"one of: {', '.join(FORMATS)} (default: hf)")
    add("--int8", action="store_true", help="with --format onnx: matrices and embeddings in 8 bits, for CPUs")
    add(
        "--task",
        metavar="TASK",
        help="with the head of this task (masked-LM, causal-LM, CLIP, wav2vec 2.0); default: the only one of the run",
    )
    add("--encoder", metavar="NAME", help="an encoder of the run; without --task it is written alone, without a head")
    add("--ema", action="store_true", help="the moving average of the weights instead of the trained ones")
    add("--out", metavar="DIR", type=Path, help="the folder (default: RUN/export/ENCODER[-TASK]-stepN[-ema])")
    add("--overwrite", action="store_true", help="replace a folder that was exported before")
    add("--tokenizer", metavar="FILE", help="where the tokenizer.json of what is written lies now, if not where it lay")
    add("--license", "--licence", metavar="TEXT", help="for the model card")
    add(
        "--data-card",
        metavar="FILE",
        type=Path,
        help="goes along (pretrain shards card --run RUN --out FILE makes one)",
    )
    add("--no-check", action="store_true", help="do not load what was written with transformers, and compare")
    return top


def main(argv: list[str]) -> int:
    """Runs the verb and returns its exit code.

    Raises:
        InputError: the encoder is none that the format can hold, or an argument does not fit.
        RunError: what was written does not compute the same.
    """
    arguments = parser().parse_args(argv)
    if arguments.format not in FORMATS:
        raise InputError(f"--format '{arguments.format}' is unknown; choices: {', '.join(FORMATS)}")
    from pretrain.export.hf import export

    for line in export(
        arguments.run,
        arguments.encoder,
        arguments.task,
        averaged=arguments.ema,
        out=arguments.out,
        overwrite=arguments.overwrite,
        tokenizer=arguments.tokenizer,
        licence=arguments.license,
        data_card=arguments.data_card,
        checked=not arguments.no_check,
        form=arguments.format,
        int8=arguments.int8,
    ):
        print(line)
    return 0

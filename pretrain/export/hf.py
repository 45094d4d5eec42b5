"""One folder that ``transformers`` loads, or a graph in its place (:mod:`pretrain.export.graph`)."""

from __future__ import annotations

from pathlib import Path

from data.errors import InputError
from pretrain.export import card, graph
from pretrain.export.check import Parity, check, library
from pretrain.export.choose import choose, named
from pretrain.export.folder import publish
from pretrain.export.origin import open_origin
from pretrain.export.signature import signature_of
from pretrain.export.tokenizer import tokens_of


def export(
    place: str,
    encoder: str | None = None,
    task: str | None = None,
    *,
    averaged: bool = False,
    out: Path | None = None,
    overwrite: bool = False,
    tokenizer: str | None = None,
    licence: str | None = None,
    data_card: Path | None = None,
    checked: bool = True,
    form: str = "hf",
    int8: bool = False,
) -> list[str]:
    """Writes an encoder, with the head of a task or without, and returns what to tell the user.

    Args:
        place: run directory or checkpoint.
        encoder: its name in the run; None: that of ``task``.
        task: a task of the run that uses it; None: the encoder alone, or, where none is named, the run's only task.
        averaged: take the moving average of the weights.
        out: the folder; None: below the run's (or the checkpoint's) directory.
        overwrite: replace a folder that is there.
        tokenizer: where the tokenizer lies, None: where the run had it.
        licence: for the model card.
        data_card: a text that goes along with the model card.
        checked: load it with ``transformers`` and compare, before it gets its name.
        form: ``hf``, or ``onnx`` or ``torch`` for a graph made of that.
        int8: quantise the graph.

    Raises:
        InputError: an argument does not fit, or no class of ``transformers`` can express the encoder.
        RunError: what was written does not compute the same.
    """
    graph.ready(form, int8, checked)
    if checked:
        library()  # before anything is read: it takes a while, and is what may be missing
    origin = open_origin(place, averaged)
    encoder, task = named(origin, encoder, task)
    wanted = [encoder] if task is None else list(origin.task(task)["encoders"].values())
    tokens = tokens_of(origin, wanted, tokenizer)
    plan = choose(origin, encoder, task, tokens)
    signature = None if form == "hf" else signature_of(plan)
    if plan.text in tokens:
        plan.files |= tokens[str(plan.text)].files(plan.longest, plan.causal)
    if data_card is not None:
        plan.files[card.DATA_CARD] = _text(data_card)
    if out is None:
        parts = [encoder, task, f"step{origin.content.step}", "ema" if averaged else None]
        parts += [None if form == "hf" else form, "int8" if int8 else None]
        name = "-".join(part for part in parts if part)
        out = (origin.run.path if origin.run else Path(place).expanduser().parent) / "export" / name
    out = out.expanduser()
    found: list[Parity] = []
    made: list[graph.Made] = []

    def look(folder: Path) -> str:
        if checked:
            found.append(check(plan, folder, tokens))
        if signature is not None:
            made.append(graph.make(plan, folder, signature, form, int8))
        return card.card(origin, plan, encoder, task, found[0] if found else None, licence, made[0] if made else None)

    files = publish(out, plan.config, plan.weights, plan.files, look, overwrite)
    lines = [f"{plan.architecture} of step {origin.content.step}: {plan.parameters:,} numbers in {out}"]
    lines.append(f"files: {', '.join(files)}")
    if found:
        outputs = ", ".join(f"{name} {value:.1e}" for name, value in found[0].outputs.items())
        agree = "" if found[0].tokens is None else f"; tokenizer the same on {found[0].tokens} texts"
        lines.append(f"parity with transformers {found[0].version}: {outputs} (bound 1e-05){agree}")
    else:
        lines.append("parity: not checked (--no-check)")
    lines += [line for one in made for line in one.lines]
    return [*lines, *plan.notes, "", card.snippet(plan, str(out), made[0] if made else None)]


def _text(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"--data-card '{path}' cannot be read: {error}") from None

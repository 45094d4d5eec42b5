"""``--format hf``: one folder that ``transformers`` loads."""

from __future__ import annotations

from pathlib import Path

from data.errors import InputError
from pretrain.export import card
from pretrain.export.check import Parity, check, library
from pretrain.export.choose import choose, named
from pretrain.export.folder import publish
from pretrain.export.origin import open_origin
from pretrain.export.tokenizer import UNBOUNDED, tokens_of


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

    Raises:
        InputError: an argument does not fit, or no class of ``transformers`` can express the encoder.
        RunError: what was written does not compute the same.
    """
    if checked:
        library()  # before anything is read: it takes a while, and is what may be missing
    origin = open_origin(place, averaged)
    encoder, task = named(origin, encoder, task)
    tokens = tokens_of(origin, tokenizer)
    plan = choose(origin, encoder, task, tokens)
    if plan.text in tokens:
        config = plan.config.get("text_config", plan.config)
        longest = config.get("max_position_embeddings") or config.get("n_positions") or UNBOUNDED
        plan.files |= tokens[str(plan.text)].files(longest, plan.causal)
    if data_card is not None:
        plan.files[card.DATA_CARD] = _text(data_card)
    if out is None:
        name = "-".join(
            [encoder, *([task] if task else []), f"step{origin.content.step}", *(["ema"] if averaged else [])]
        )
        out = (origin.run.path if origin.run else Path(place).expanduser().parent) / "export" / name
    out = out.expanduser()
    found: list[Parity] = []

    def look(folder: Path) -> str:
        if checked:
            found.append(check(plan, folder, tokens))
        return card.card(origin, plan, encoder, task, found[0] if found else None, licence)

    files = publish(out, plan.config, plan.weights, plan.files, look, overwrite)
    lines = [f"{plan.architecture} of step {origin.content.step}: {plan.parameters:,} numbers in {out}"]
    lines.append(f"files: {', '.join(files)}")
    if found:
        outputs = ", ".join(f"{name} {value:.1e}" for name, value in found[0].outputs.items())
        agree = "" if found[0].tokens is None else f"; tokenizer the same on {found[0].tokens} texts"
        lines.append(f"parity with transformers {found[0].version}: {outputs} (bound 1e-05){agree}")
    else:
        lines.append("parity: not checked (--no-check)")
    return [*lines, *plan.notes, "", card.snippet(plan, str(out))]


def _text(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"--data-card '{path}' cannot be read: {error}") from None

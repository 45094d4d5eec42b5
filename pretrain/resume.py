"""Whether a run may go on with the config it is given now."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from data.errors import InputError
from pretrain.config import difference
from pretrain.redaction import redacted

# Keys whose change would make it another model or another order of data. Where shards lie may change; what they are
# may not, and is compared by digest (see check_data).
_MODEL = re.compile(r"lora\..*|encoders\..*|tasks\.[^.]+\.(objective|encoders)(\..*)?")
# What of an encoder or objective is drawn anew in training, and is no part of what it computes.
_NOISE = re.compile(r".*\.((attention_|mlp_|input_|feature_)?dropout|layer_drop)")
# What changes memory, time or place alone is not even said.
_SILENT = re.compile(r".*\.checkpoint_blocks|trainer\.compile|(launcher|sweeper)\..*")
_ORDER = re.compile(
    r"seed|order\..*|tasks\.[^.]+\.(batch_size|alpha|source\..+\.weight|prepare\.(?!tokenizer$|.*\.tokenizer$).*)|tasks\.[^.]+"
)


def split_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[str, Any, Any]]:
    """Dotted key -> (what it changes: ``model``, ``order`` or ``""``, old, new)."""
    changes: dict[str, tuple[str, Any, Any]] = {}
    # What is kept of a config holds no credentials, and other ones are no change.
    for key, (before, after) in difference(redacted(old), redacted(new)).items():
        if _SILENT.fullmatch(key):
            continue
        model = _MODEL.fullmatch(key) and not _NOISE.fullmatch(key)
        what = "model" if model else "order" if _ORDER.fullmatch(key) or _task_set(key, old, new) else ""
        changes[key] = (what, before, after)
    return changes


def _task_set(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    parts = key.split(".")
    return parts[0] == "tasks" and len(parts) > 1 and (parts[1] in old["tasks"]) != (parts[1] in new["tasks"])


def check_config(old: Mapping[str, Any], new: Mapping[str, Any], allowed: list[str]) -> list[str]:
    """Lines that describe the difference between a run's config and the one given now.

    Raises:
        InputError: a difference changes the model or the data order and neither it nor what it is part of
            (``tasks.mlm`` for all of a task) is in ``allowed``.
    """
    changes = split_changes(old, new)
    refused = [key for key, (what, _, _) in changes.items() if what and not _allowed(key, allowed)]
    if refused:
        key = refused[0]
        what, before, after = changes[key]
        described = "the model" if what == "model" else "the order of data"
        needed = dict.fromkeys(".".join(k.split(".")[:2]) if _task_set(k, old, new) else k for k in refused)
        raise InputError(
            f"{key} {_told(before, after)}, which changes {described} of the run"
            + (f" (and {len(refused) - 1} more such keys)" if len(refused) > 1 else "")
            + f"; give another run_dir, or allow_changes=[{','.join([*allowed, *needed])}]"
        )
    return [f"changed: {key} was {before}, is {after}" for key, (_, before, after) in changes.items()]


def _told(before: Any, after: Any) -> str:
    """What became of a value; of two lists of words only how they differ."""
    if isinstance(before, list) and isinstance(after, list) and all(isinstance(one, str) for one in before + after):
        gone, new = [one for one in before if one not in after], [one for one in after if one not in before]
        parts = [f"{what} {_some(words)}" for what, words in (("lacks", gone), ("has the new", new)) if words]
        return " and ".join(parts) or "is in another order"
    return f"was {before} and is {after} now"


def _some(words: list[str]) -> str:
    return ", ".join(f"'{word}'" for word in words[:5]) + (f" and {len(words) - 5} more" if len(words) > 5 else "")


def _allowed(key: str, allowed: list[str]) -> bool:
    return any(key == one or key.startswith(one + ".") for one in allowed)


def check_data(
    old: Mapping[str, str], new: Mapping[str, str], allowed: list[str], differs: Callable[[str], str | None]
) -> None:
    """Compares the digests of the shard lists a checkpoint was made with and those found now.

    Args:
        old: source -> digest, as the checkpoint has it.
        new: the same as it is now.
        allowed: what may change.
        differs: says in words how the shards of a source that is in both differ; None if that is not known.

    Raises:
        InputError: a source has other shards, and ``data`` is not in ``allowed``.
    """
    names = [name for name in sorted(old.keys() | new.keys()) if f"tasks.{name.split('.')[0]}" not in allowed]
    changed = [name for name in names if old.get(name) != new.get(name)]
    if changed and "data" not in allowed:
        name = changed[0]
        if name not in old or name not in new:
            what = f"source '{name}' is {'new' if name in new else 'not there any more'}"
        else:
            how = differs(name) or "names, sample counts or sizes"
            what = f"source '{name}' has other shards than the run was made with: {how}"
        more = f" (and {len(changed) - 1} more sources changed)" if len(changed) > 1 else ""
        raise InputError(
            f"{what}{more}, which changes the order of data; give another run_dir, or "
            f"allow_changes=[{','.join([*allowed, 'data'])}] to go on with them from here"
        )


def check_tokenizers(place: str, old: Mapping[str, str], new: Mapping[str, str], allowed: list[str]) -> None:
    """Compares tokenizer digests.

    Raises:
        InputError: an encoder's token numbers mean something else now, and ``tokenizer`` is not in ``allowed``.
    """
    for encoder in sorted(old.keys() & new.keys()):
        if old[encoder] != new[encoder] and "tokenizer" not in allowed:
            raise InputError(
                f"the tokenizer of encoder '{encoder}' is not the one of '{place}' "
                f"(SHA-256 {new[encoder][:12]} instead of {old[encoder][:12]}): "
                "token numbers would change their meaning; give the tokenizer it was trained with"
            )

"""``pretrain adapt RUN ...`` -> the arguments of an ordinary training.

Adapting is training with other objectives, from weights that are there. So nothing of it is known beyond the command
line: what RUN decides is written out as overrides, and whatever reads a run's overrides later needs no RUN.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from data.errors import InputError
from data.label import digest_of
from pretrain import config
from pretrain.adapting.aim import aimed
from pretrain.adapting.labels import labels_of, wants_labels
from pretrain.adapting.origin import Origin, origin_of, written
from pretrain.grammar import key_of, parse
from pretrain.run import RunDirectory
from pretrain.storage import open_store

_TASKS = {"text": "text_classification", "image": "image_classification", "audio": "audio_classification"}
_VALUED = ("--config-dir", "--cfg")


def expand(arguments: Sequence[str]) -> list[str]:
    """The arguments of the training that ``pretrain adapt ARGUMENTS`` is.

    Raises:
        InputError: RUN is missing or has nothing to begin with, an override is wrong, or labels cannot be read.
    """
    place, options, given, config_dir = _parted(arguments)
    parsed = parse(given)
    said = next((one.value() for one in reversed(parsed) if one.key_or_group == "trusted_roots"), None)
    roots = tuple(map(str, said)) if isinstance(said, list) else ()
    origin = origin_of(place, roots)
    first = [*_chosen(origin, place, given), *origin.overrides]
    fixed = [text for text, one in zip(given, parsed, strict=True) if not one.is_sweep_override()]
    first += aimed(origin.modalities, lambda: config.written([*first, *fixed], config_dir))
    composed = config.load([*first, *fixed], config_dir)
    return [*options, *first, *_carried(origin, composed), *_tables(composed), *_labels(composed, roots), *given]


def _parted(arguments: Sequence[str]) -> tuple[str, list[str], list[str], str | None]:
    """RUN, options as they are, overrides, and the folder of own configs."""
    places: list[str] = []
    options: list[str] = []
    given: list[str] = []
    config_dir = None
    rest = list(arguments)
    while rest:
        one = rest.pop(0)
        if one.startswith("-"):
            name, joined, value = one.partition("=")
            options.append(one)
            if name in _VALUED and not joined and rest:
                value = rest.pop(0)
                options.append(value)
            config_dir = value if name == "--config-dir" else config_dir
            if name == "--config":
                raise InputError("adapt composes a config; '--config FILE' alone continues what FILE describes")
        elif ("=" in one and not os.path.exists(one)) or one.startswith("~"):  # a trial's folder may be named lr=0.1
            given.append(one)
        else:
            places.append(one)
    if len(places) != 1:
        what = f"got {', '.join(places)}" if places else "none is given"
        raise InputError(f"adapt takes one run, checkpoint or folder of transformers, then KEY=VALUE; {what}")
    return places[0], options, given, config_dir


def _chosen(origin: Origin, place: str, given: Sequence[str]) -> list[str]:
    """Experiment, name and task, where the user has not chosen them."""
    keys = [key_of(one) for one in given]
    found = [] if "experiment" in keys else ["experiment=adapt", f"name={written(f'adapt_{origin.name}', 'name')}"]
    if "experiment" in keys or any(key.startswith("task@tasks.") for key in keys):
        return found
    added = [key.removeprefix("encoder@encoders.") for key in keys if key.startswith("encoder@encoders.")]
    known = origin.modalities or {name: name for name in added}
    if not known:
        raise InputError(f"'{place}' does not say which encoder of conf/encoder it is; add {origin.advice}")
    if len(known) != 1 or next(iter(known.values())) not in _TASKS:
        offers = [f"+task@tasks.NAME={_TASKS[kind]}" for kind in dict.fromkeys(known.values()) if kind in _TASKS]
        raise InputError(f"'{place}' has the encoders {', '.join(known)}; say what to teach: {' or '.join(offers)}")
    return [*found, f"+task@tasks.label={_TASKS[next(iter(known.values()))]}"]


def _carried(origin: Origin, composed: Mapping[str, Any]) -> list[str]:
    """What prepared an encoder's inputs stays, as far as it decides on their meaning."""
    found = []
    for task, spec in composed["tasks"].items():
        for side, encoder in spec["encoders"].items():
            if isinstance(spec["prepare"].get(side), Mapping):
                place = f"tasks.{task}.prepare.{side}"
                carried = origin.carried.get(encoder, {})
                found += [f"++{place}.{key}={written(value, place)}" for key, value in carried.items()]
    return found


def _tables(composed: Mapping[str, Any]) -> list[str]:
    """The digest of each table of labels: another table would be another run."""
    found = []
    for task, spec in composed["tasks"].items():
        label = spec["prepare"].get("label")
        if isinstance(label, Mapping) and label.get("table") is not None and label.get("sha256") is None:
            place, whole = f"tasks.{task}.prepare.label", {**label, "sha256": digest_of(label["table"])}
            found.append(f"{place}={written(whole, place)}")
    return found


def _labels(composed: Mapping[str, Any], roots: tuple[str, ...]) -> list[str]:
    """Labels of the tasks that lack them: those that the run has begun with, else what their samples have."""
    wanting = [
        task
        for task, spec in composed["tasks"].items()
        if wants_labels(spec["prepare"], f"tasks.{task}.prepare", roots)
    ]
    if not wanting:
        return []
    begun = (RunDirectory(composed["run_dir"], rank=-1).frozen_config() or {}).get("tasks", {})
    found, store = [], open_store(composed)
    try:
        for task in wanting:
            spec, place = composed["tasks"][task], f"tasks.{task}.prepare.labels"
            known = begun.get(task, {}).get("prepare", {}).get("labels")
            if known is None and spec["source"] is None:
                raise InputError(f"tasks.{task}.source is not given; name labelled shards: data.folder=DIR")
            labels = known or labels_of(task, spec["source"], spec["prepare"], roots, store)
            found.append(f"{place}={written(labels, place)}")
    finally:
        store.close()
    return found

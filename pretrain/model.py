"""Encoders and tasks from a config, and the model they make up."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn

from data.errors import InputError, choices
from data.seeds import derive
from modalities.encoder import Encoder
from modalities.lora import add_lora
from modalities.objective import Objective
from modalities.prepare import Prepare, Sides
from pretrain.build import make
from pretrain.optim.weights import Weight, task_weight

log = logging.getLogger("pretrain")

Given = ParamSpec("Given")
Found = TypeVar("Found")


@dataclass
class Task:
    """One objective with what feeds it.

    Attributes:
        name: its key under ``tasks``.
        objective: features -> loss.
        sides: side of the objective -> name of an encoder.
        prepare: sample -> tensors.
        weight: step -> factor of its loss.
    """

    name: str
    objective: Objective
    sides: dict[str, str]
    prepare: Any
    weight: Weight


class Model(nn.Module):
    """All that is trained: encoders and objectives, each under the name it has in the config."""

    def __init__(self, encoders: Mapping[str, Encoder], tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.objectives = nn.ModuleDict({name: task.objective for name, task in tasks.items()})
        self.tasks = dict(tasks)

    def run(self, function: Callable[Given, Found], *given: Given.args, **named: Given.kwargs) -> Found:
        """What ``function`` returns: a forward pass of parts of the model, which are whole within.

        Where processes hold parts of the parameters, those are gathered here; see :mod:`pretrain.sharding.shard`.
        """
        return self(lambda: function(*given, **named))

    def forward(self, function: Callable[[], Found]) -> Found:
        """See :meth:`run`."""
        return function()

    def sides(self, sides: Mapping[str, str]) -> dict[str, Encoder]:
        """Side -> encoder, for a task or an evaluator."""
        return {side: self.encoders[name] for side, name in sides.items()}  # type: ignore[misc]

    def check_trained(self) -> None:
        """Called when an optimizer has frozen what it freezes.

        Raises:
            InputError: a task has nothing left to train.
        """
        for name, task in self.tasks.items():
            parts = [task.objective, *self.sides(task.sides).values()]
            if not any(p.requires_grad for part in parts for p in part.parameters()):
                encoders = " and ".join(f"'{encoder}'" for encoder in dict.fromkeys(task.sides.values()))
                raise InputError(
                    f"tasks.{name} has nothing to train: encoder {encoders} and its objective are frozen; "
                    f"leave it out with '~tasks.{name}'"
                )


def _check_name(kind: str, name: object) -> None:
    """Raises an InputError for what no part of a model, no metric and no file can be called."""
    if not isinstance(name, str) or not name or re.search(r"[./]", name) or hasattr(nn.ModuleDict(), name):
        raise InputError(
            f"{kind}: {name!r} cannot be a name here; give a text without '.' and '/', and no name of torch's own"
        )


def build_model(config: Mapping[str, Any]) -> Model:
    """The model that a resolved config describes, initialised from its seed.

    Each part has a seed of its own, made of its name: adding a task does not change how the others begin. Encoders
    that no task uses are left out.

    Raises:
        InputError: no task, an unknown encoder, a task paired with an encoder of another modality, wrong arguments.
    """
    specs = config["tasks"]
    if not specs:
        raise InputError("tasks is empty; a run needs at least one (see 'pretrain --help' for those there are)")
    for kind in ("encoders", "tasks"):
        for name in config[kind]:
            _check_name(kind, name)
    roots, seed = tuple(config["trusted_roots"]), config["seed"]
    used = {name for spec in specs.values() for name in spec["encoders"].values()}
    for task, spec in specs.items():
        for side, name in spec["encoders"].items():
            if name not in config["encoders"]:
                raise InputError(f"tasks.{task}.encoders.{side} is '{name}'; {choices(name, config['encoders'])}")
    encoders: dict[str, Encoder] = {}
    for name, node in config["encoders"].items():
        if name not in used:
            log.info("encoder '%s' is left out: no task uses it", name)
            continue
        if "vocab_size" in node and node["vocab_size"] is None:
            folder = str(config["data"].get("folder") or ".")
            there = "://" in folder or Path(folder).expanduser().is_dir()
            raise InputError(
                f"encoders.{name}.vocab_size is not known, as there is no tokenizer '{config['tokenizer']}'"
                f"{'' if there else f', nor a folder {folder!r} (data.folder)'}; give data.folder=DIR or "
                "data.tokenizer=FILE ('pretrain shards pack ... --tokenizer 8000' makes one from own texts)"
            )
        torch.manual_seed(derive(seed, "encoders", name))
        encoders[name] = make(node, f"encoders.{name}", roots)
        if not isinstance(encoders[name], Encoder):
            raise InputError(f"encoders.{name} is a {type(encoders[name]).__name__}, not a modalities.encoder.Encoder")
        if config["lora"]["rank"] is not None:
            torch.manual_seed(derive(seed, "lora", name))
            add_lora(encoders[name], **config["lora"], where=f"encoders.{name}")
    tasks = {name: _task(name, spec, encoders, roots, seed) for name, spec in specs.items()}
    return Model(encoders, tasks)


def _task(
    name: str, spec: Mapping[str, Any], encoders: Mapping[str, Encoder], roots: tuple[str, ...], seed: int
) -> Task:
    where = f"tasks.{name}"
    prepare = make(spec["prepare"], f"{where}.prepare", roots)
    torch.manual_seed(derive(seed, where))
    objective = make(spec["objective"], f"{where}.objective", roots)
    if not isinstance(objective, Objective):
        raise InputError(f"{where}.objective is a {type(objective).__name__}, not a modalities.objective.Objective")
    sides = dict(spec["encoders"])
    if set(sides) != set(objective.sides):
        raise InputError(
            f"{where}.encoders names the sides {', '.join(sorted(sides))}; "
            f"{type(objective).__name__} has: {', '.join(sorted(objective.sides))}"
        )
    check_sides(where, prepare, sides, encoders, objective.sides)
    own = {side: encoders[encoder] for side, encoder in sides.items()}
    reason = objective.accept(own)
    if reason:
        raise InputError(f"{where}: {reason}")
    for encoder in sorted(set(sides.values())):
        torch.manual_seed(derive(seed, "projection", encoder))
        objective.connect({side: encoders[encoder] for side, other in sides.items() if other == encoder})
    return Task(name, objective, sides, prepare, task_weight(spec["weight"], f"{where}.weight", spec["batch_size"]))


def check_sides(
    where: str,
    prepare: Any,
    sides: Mapping[str, str],
    encoders: Mapping[str, Encoder],
    wanted: Mapping[str, str],
) -> None:
    """Checks that each encoder takes what its side's prepare makes: its modality, its tokens and its longest text.

    Raises:
        InputError: naming the task, the side and both modalities, or the value that fits.
    """
    made = set(prepare.sides) if isinstance(prepare, Sides) else None
    if (made is None and len(sides) > 1) or (made is not None and made != set(sides)):
        got = f"the sides {', '.join(sorted(made))}" if made is not None else "one side"
        raise InputError(
            f"{where}.prepare makes {got}; needed: {', '.join(sorted(sides))} (see modalities.prepare.Sides)"
        )
    for side, name in sides.items():
        encoder = encoders[name]
        if wanted.get(side) and encoder.modality != wanted[side]:
            raise InputError(
                f"{where}: side '{side}' takes a {wanted[side]} encoder, but '{name}' is an {encoder.modality} encoder"
            )
        part: Prepare = prepare.sides[side] if isinstance(prepare, Sides) else prepare
        if part.modality != encoder.modality:
            raise InputError(
                f"{where}: side '{side}' is prepared as {part.modality}, "
                f"but its encoder '{name}' takes {encoder.modality}"
            )
        tokenizer, entries = getattr(part, "tokenizer", None), getattr(encoder, "vocab_size", None)
        if tokenizer is not None and entries is not None and tokenizer.size > entries:
            raise InputError(
                f"{where}: tokenizer '{tokenizer.path}' has {tokenizer.size} entries, "
                f"but encoders.{name}.vocab_size={entries}; set data.vocab_size={tokenizer.size}"
            )
        _check_length(f"{where}.prepare{f'.{side}' if part is not prepare else ''}", part, name, encoder)


def _check_length(where: str, prepare: Any, name: str, encoder: Encoder) -> None:
    """Checks that the longest sequence has a place in the encoder, before one comes along in the middle of training.

    Args:
        where: the prepare's place in the config.
        prepare: has ``longest`` where it makes so many tokens and no more, by its ``max_tokens``.
        name: of the encoder.
        encoder: has ``longest`` where it takes so many tokens and no more.

    Raises:
        InputError: naming the value that fits.
    """
    longest, room = getattr(prepare, "longest", None), getattr(encoder, "longest", None)
    if longest is None or room is None or longest <= room:
        return
    key, fits = f"{where}.max_tokens", prepare.max_tokens - (longest - room)
    raise InputError(
        f"{key}={prepare.max_tokens} makes texts of up to {longest} tokens, but encoder '{name}' takes {room} "
        f"(encoders.{name}.max_tokens); set {key}={fits}"
    )


def tokenizers(model: Model) -> dict[str, str]:
    """Encoder name -> SHA-256 of the tokenizer whose tokens it takes. Two tasks must agree.

    Raises:
        InputError: two tasks feed one encoder with different tokenizers.
    """
    found: dict[str, str] = {}
    for task in model.tasks.values():
        for side, encoder in task.sides.items():
            part = task.prepare.sides[side] if isinstance(task.prepare, Sides) else task.prepare
            tokenizer = getattr(part, "tokenizer", None)
            if tokenizer is None:
                continue
            if found.setdefault(encoder, tokenizer.digest) != tokenizer.digest:
                raise InputError(
                    f"tasks.{task.name}: encoder '{encoder}' is fed by another task with another tokenizer"
                )
    return found

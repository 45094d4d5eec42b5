"""Encoders out of a checkpoint, each built when it is asked for, and how their inputs are prepared."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from data.errors import InputError, choices
from modalities.encoder import Encoder
from modalities.lora import merged
from modalities.prepare import Prepare
from pretrain import checkpoint
from pretrain.build import make
from pretrain.checkpoint.folder import MANIFEST
from pretrain.inputs import plain_node
from pretrain.run import RunDirectory


class Trained:
    """A published checkpoint to compute with.

    The config that travels with the weights is judged as any config is (:mod:`pretrain.targets`): it names packaged
    classes, or those below the ``roots`` that this command line trusts.

    Args:
        place: run directory (its newest sound checkpoint), or a step-XXXXXXXX folder.
        averaged: the moving average of the weights instead of the trained ones.
        roots: import roots that the user trusts.

    Attributes:
        reader: the checkpoint.

    Raises:
        InputError: there is no sound checkpoint, it has no average, or does not say which encoders it is of.
    """

    def __init__(self, place: str, averaged: bool = False, roots: tuple[str, ...] = ()) -> None:
        self.place, self.averaged, self.roots = place, averaged, roots
        self.reader = checkpoint.find_reader(place)
        config = self.reader.state.get("config")
        parts = [config.get(key) if isinstance(config, Mapping) else None for key in ("encoders", "tasks")]
        if not all(isinstance(part, Mapping) for part in parts):
            raise InputError(
                f"checkpoint '{place}' does not say which encoders and tasks it is of (state.json: config)"
            )
        assert isinstance(config, Mapping)
        self.config: Mapping[str, Any] = config
        self._averages = self.reader.shapes("ema") if averaged else {}
        if averaged and not self._averages:
            raise InputError(f"--ema: '{place}' keeps no averaged weights (the run needs ema.decay=0.999 or so)")

    @property
    def step(self) -> int:
        """Optimizer updates done."""
        return self.reader.step

    @cached_property
    def digest(self) -> str:
        """Names the checkpoint: SHA-256 of its manifest, which holds those of all files."""
        return hashlib.sha256((self.reader.path / MANIFEST).read_bytes()).hexdigest()

    @cached_property
    def run(self) -> RunDirectory | None:
        """The directory of its run, where the checkpoint still lies in one."""
        return run_of(self.reader)

    @property
    def encoders(self) -> list[str]:
        """Names of the encoders that tasks have trained."""
        used = {name for spec in self.config["tasks"].values() for name in spec["encoders"].values()}
        return sorted(used & set(self.config["encoders"]))

    def chosen(self, name: str | None) -> str:
        """``name``, or the only encoder.

        Raises:
            InputError: there is none of this name, or several and none is named.
        """
        if name is None and len(self.encoders) > 1:
            raise InputError(f"'{self.place}' has several encoders; give --encoder, one of: {', '.join(self.encoders)}")
        found = self.encoders[0] if name is None else name
        if found not in self.encoders:
            raise InputError(f"--encoder '{found}' is not in '{self.place}'; {choices(found, self.encoders)}")
        return found

    def encoder(self, name: str) -> Encoder:
        """An encoder with its weights and projections, in evaluation mode.

        Raises:
            InputError: the weights are of other settings than the config says.
        """
        where = f"encoders.{name}"
        node = dict(self.config["encoders"][name])
        if "weights" in node:
            node["weights"] = None  # what a foreign module began with is not needed any more
        encoder = make(node, where, self.roots)
        if not isinstance(encoder, Encoder):
            raise InputError(f"{where} is a {type(encoder).__name__}, not a modalities.encoder.Encoder")
        state = self._state(f"{where}.")
        for dim in sorted({int(key.split(".")[1]) for key in state if key.startswith("projections.")}):
            encoder.add_projection(dim)
        own = {key: tuple(tensor.shape) for key, tensor in encoder.state_dict().items()}
        for key in sorted(own.keys() | state.keys()):
            if key not in own or key not in state:
                has = "has" if key in state else "lacks"
                raise InputError(f"{where}: checkpoint '{self.place}' {has} '{key}', unlike its config")
            if own[key] != tuple(state[key].shape):
                sizes = f"{tuple(state[key].shape)} in the checkpoint, {own[key]} by its config"
                raise InputError(f"{where}: '{key}' is {sizes}")
        encoder.load_state_dict(state)
        return encoder.eval()

    def _state(self, prefix: str) -> dict[str, Tensor]:
        names = [name for name in self.reader.shapes("model") if name.startswith(prefix)]
        kinds = {name: "ema" if name in self._averages else "model" for name in names}
        return merged({name.removeprefix(prefix): self.reader.tensor(kinds[name], name) for name in names})

    def prepare_node(self, name: str, joint: bool = False, **changed: Any) -> dict[str, Any]:
        """The config of what prepares the inputs of encoder ``name``, without what its objective adds (masks, say).

        Args:
            name: of the encoder.
            joint: whether its place in a joint space is asked for.
            changed: arguments that are to be others.

        Raises:
            InputError: see :func:`pretrain.inputs.plain_node`.
        """
        return plain_node(self.config["tasks"], name, self.roots, changed, joint=joint)

    def prepare(self, name: str, node: Mapping[str, Any] | None = None) -> Prepare:
        """What prepares the inputs of encoder ``name``, by ``node`` (default: :meth:`prepare_node`).

        Raises:
            InputError: its tokenizer is gone, or is another one than the encoder was trained with.
        """
        where = f"prepare of encoder '{name}'"
        prepare: Prepare = make(node or self.prepare_node(name), where, self.roots)
        tokenizer, wanted = getattr(prepare, "tokenizer", None), self.reader.state.get("tokenizers", {}).get(name)
        if tokenizer is not None and wanted is not None and tokenizer.digest != wanted:
            raise InputError(
                f"tokenizer '{tokenizer.path}' is not the one that encoder '{name}' was trained with (SHA-256 "
                f"{tokenizer.digest[:12]} instead of {wanted[:12]}); give --prepare tokenizer=FILE"
            )
        return prepare


def run_of(reader: checkpoint.Reader) -> RunDirectory | None:
    """The directory of the run of a checkpoint, where it still lies in one."""
    root = reader.path.resolve().parent.parent
    return RunDirectory(str(root), rank=-1) if (root / "config.yaml").is_file() else None


def run_place(place: str, step: int) -> str:
    """The checkpoint of ``step`` in the run that ``place`` names, or ``place`` itself where it is one checkpoint."""
    root = Path(place).expanduser() / "checkpoints"
    return str(root / checkpoint.directory_name(step)) if root.is_dir() else place

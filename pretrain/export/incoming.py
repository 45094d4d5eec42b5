"""``init_from=FOLDER`` of ``transformers``: config.json and weights are read as data; nothing in them runs."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from data.errors import InputError, choices
from modalities.text.hf_config import modernbert_now

CONFIG, WEIGHTS, INDEX, PICKLED = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
)
FAMILIES: dict[str, tuple[str, ...]] = {
    "bert": ("bert",),
    "modernbert": ("modernbert",),
    "gpt2": ("gpt2",),
    "clip": ("clip_text", "clip_vision"),
    "clip_text_model": ("clip_text",),
    "clip_vision_model": ("clip_vision",),
    "wav2vec2": ("wav2vec2",),
}
"""``model_type`` of a config.json -> families in it."""
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass
class Folder:
    """A folder of ``transformers``, opened.

    Attributes:
        path: where it lies.
        model_type: a key of :data:`FAMILIES`.
        config: content of config.json.
    """

    path: Path
    model_type: str
    config: dict[str, Any]

    def part(self, family: str) -> Mapping[str, Any]:
        """The part of config.json that describes ``family``.

        Raises:
            InputError: it is no mapping.
        """
        if family == "modernbert":
            return modernbert_now(self.config)
        inner = {"clip_text": "text_config", "clip_vision": "vision_config"}.get(family)
        if self.model_type != "clip" or inner is None:
            return self.config
        found = self.config.get(inner)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise InputError(f"'{self.path / CONFIG}': {inner} is no mapping")
        return found

    def weights(self) -> dict[str, Tensor]:
        """All tensors, on the host.

        Raises:
            InputError: there are none, or they are damaged.
        """
        found: dict[str, Tensor] = {}
        for path in self._files():
            if path.suffix == ".bin":
                found |= _unpickled(path)
                continue
            try:
                found |= load_file(path)
            except (OSError, SafetensorError, ValueError) as error:
                raise InputError(f"'{path}' is no readable safetensors file: {error}") from None
        return found

    def _files(self) -> Iterator[Path]:
        if (self.path / WEIGHTS).is_file():
            yield self.path / WEIGHTS
        elif (self.path / INDEX).is_file():
            names = _json(self.path / INDEX).get("weight_map")
            if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
                raise InputError(f"'{self.path / INDEX}' has no weight_map from tensors to files")
            for name in sorted(set(names.values())):
                if not _PLAIN_NAME.fullmatch(name) or not (self.path / name).is_file():
                    raise InputError(f"'{self.path / INDEX}' names the file {name!r}, which is not in the folder")
                yield self.path / name
        elif (self.path / PICKLED).is_file():
            yield self.path / PICKLED
        else:
            raise InputError(f"'{self.path}' holds no weights; looked for: {WEIGHTS}, {INDEX}, {PICKLED}")


def concerns(place: str | Mapping[str, str]) -> bool:
    """Whether ``init_from`` names a folder of ``transformers``, or encoders with one each."""
    return not isinstance(place, str) or (Path(place).expanduser() / CONFIG).is_file()


def open_folder(place: str) -> Folder:
    """Reads config.json.

    Raises:
        InputError: there is none, or none of a family that there is an encoder for.
    """
    path = Path(place).expanduser()
    if not (path / CONFIG).is_file():
        raise InputError(f"init_from '{place}' is no folder of transformers (it has no {CONFIG})")
    config = _json(path / CONFIG)
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise InputError(f"init_from '{place}': model_type '{kind}' in {CONFIG}; {choices(str(kind), FAMILIES)}")
    return Folder(path, kind, config)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{path}' cannot be read as JSON: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"'{path}' is no JSON object")
    return found


def _unpickled(path: Path) -> dict[str, Tensor]:
    """Tensors alone: torch's reader refuses anything else that a pickle could ask for."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"'{path}' holds more than tensors, or is damaged; convert it to safetensors ({reason})"
        ) from None
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise InputError(f"'{path}' is no mapping from names to tensors; convert it to safetensors")
    return {str(name): tensor for name, tensor in found.items()}

"""The changes that a test names, in their order."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from data.errors import InputError, choices
from modalities.audio.changes import CHANGES as AUDIO
from modalities.image.changes import CHANGES as IMAGE
from modalities.text.changes import CHANGES as TEXT

KNOWN: dict[str, dict[str, type]] = {"text": TEXT, "image": IMAGE, "audio": AUDIO}
"""Modality -> name -> class."""


class Changes:
    """One change after the other.

    Args:
        spec: ``typos``, ``{typos: {share: 0.2}}``, or several: ``{case: {to: lower}, punctuation: null}``.
        modality: of what is changed.

    Raises:
        InputError: there is no such change, or it takes no such arguments.
    """

    def __init__(self, spec: Any, modality: str) -> None:
        named = {spec: None} if isinstance(spec, str) else spec
        if not isinstance(named, Mapping) or not named:
            raise InputError(f"change {spec!r} is neither the name of a change nor {{NAME: ARGUMENTS}}")
        self.modality, self.names = modality, [str(name) for name in named]
        self.steps = [_made(str(name), arguments, modality) for name, arguments in named.items()]
        self.text = " and ".join(map(_told, self.names, named.values()))

    def __call__(self, value: Any, rng: np.random.Generator, rate: int = 0) -> Any:
        """The changed text, pixels or wave; None where a change finds nothing to change.

        Args:
            value: a text, (3, H, W) uint8 pixels, or an (n,) float32 wave.
            rng: of the sample and the test.
            rate: in Hz, of a wave.
        """
        for step in self.steps:
            value = step(value, rate, rng) if self.modality == "audio" else step(value, rng)
            if value is None:
                return None
        return value


def _made(name: str, arguments: Any, modality: str) -> Any:
    known = KNOWN[modality]
    if name not in known:
        raise InputError(f"change '{name}' is unknown for {modality}; {choices(name, known)}")
    given = arguments or {}
    if not isinstance(given, Mapping):
        raise InputError(f"change '{name}' is given {arguments!r}, not {{ARGUMENT: VALUE}}")
    parameters = inspect.signature(known[name]).parameters
    for key in given:
        if key not in parameters:
            takes = choices(str(key), parameters) if parameters else "it takes none"
            raise InputError(f"change '{name}' has no argument '{key}'; {takes}")
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in given:
            raise InputError(f"change '{name}' lacks {key}")
    try:
        return known[name](**given)
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"change '{name}' refuses {dict(given)}: {error}") from None
    except InputError as error:
        raise InputError(f"change '{name}': {error}") from None


def _told(name: str, arguments: Any) -> str:
    plain = [f"{key} {value}" for key, value in (arguments or {}).items() if not isinstance(value, Mapping | list)]
    return name.replace("_", " ") + (f" ({', '.join(plain)})" if plain else "")
